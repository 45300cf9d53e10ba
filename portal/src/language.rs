//! Every text that a person reads on the pages, in all languages side by side. A `{}` is filled in by [`fill`].

use config::Language;

/// In the order in which they are offered.
pub const LANGUAGES: [Language; 3] = [Language::English, Language::Ukrainian, Language::French];

/// A line without one of its languages does not compile.
macro_rules! table {
    ($($name:ident: $english:literal, $ukrainian:literal, $french:literal;)*) => {
        pub struct Words { $(pub $name: &'static str,)* }

        static ENGLISH: Words = Words { $($name: $english,)* };
        static UKRAINIAN: Words = Words { $($name: $ukrainian,)* };
        static FRENCH: Words = Words { $($name: $french,)* };

        #[cfg(test)]
        pub const TABLE: &[(&str, [&str; 3])] = &[$((stringify!($name), [$english, $ukrainian, $french]),)*];
    };
}

pub fn words(language: Language) -> &'static Words {
    match language {
        Language::English => &ENGLISH,
        Language::Ukrainian => &UKRAINIAN,
        Language::French => &FRENCH,
    }
}

/// Puts `part` where the text says `{}`.
pub fn fill(text: &str, part: &str) -> String {
    text.replacen("{}", part, 1)
}

table! {
    // How this language calls itself, and how it writes numbers and spans of time.
    own_name: "English", "Українська", "Français";
    decimal_mark: ".", ",", ",";
    thousands_mark: ",", "\u{a0}", "\u{202f}";
    seconds: "{}\u{a0}s", "{}\u{a0}с", "{}\u{a0}s";
    minutes: "{}\u{a0}min", "{}\u{a0}хв", "{}\u{a0}min";
    hours: "{}\u{a0}h", "{}\u{a0}год", "{}\u{a0}h";
    days: "{}\u{a0}days", "{}\u{a0}дн", "{}\u{a0}jours";
    kilobytes: "{}\u{a0}kB", "{}\u{a0}кБ", "{}\u{a0}ko";
    megabytes: "{}\u{a0}MB", "{}\u{a0}МБ", "{}\u{a0}Mo";
    ago: "{} ago", "{} тому", "il y a {}";
    just_now: "just now", "щойно", "à l’instant";

    // Around every page.
    pages: "Pages", "Сторінки", "Pages";
    overview: "Overview", "Огляд", "Vue d’ensemble";
    readings: "Readings", "Показання", "Mesures";
    language: "Language", "Мова", "Langue";
    skip: "Skip to the content", "Перейти до змісту", "Aller au contenu";
    connection_lost: "Connection lost. What you see is old; it is being tried again.",
        "Зв’язок втрачено. Те, що ви бачите, застаріло; триває нова спроба.",
        "Connexion perdue. Ce que vous voyez est ancien\u{a0}; nouvelle tentative en cours.";
    restarting: "The update restarts the programs. This page comes back by itself.",
        "Оновлення перезапускає програми. Ця сторінка відновиться сама.",
        "La mise à jour redémarre les programmes. Cette page revient d’elle-même.";
    last_heard: "Last news at", "Останні дані о", "Dernières nouvelles à";
    not_found: "There is no such page.", "Такої сторінки немає.", "Cette page n’existe pas.";
    to_overview: "Go to the overview", "Перейти до огляду", "Aller à la vue d’ensemble";
    foreign_host: "This portal does not answer to the name in your address bar. On the plant PC itself open it as localhost; for other machines its engineer adds the name to PORTAL_HOSTS in config/config.txt.",
        "Портал не відповідає на ім’я у вашому адресному рядку. На самому заводському ПК відкрийте його як localhost; для інших машин інженер додає це ім’я до PORTAL_HOSTS у config/config.txt.",
        "Ce portail ne répond pas au nom de votre barre d’adresse. Sur le PC de l’usine même, ouvrez-le en tant que localhost\u{a0}; pour d’autres machines, l’ingénieur ajoute ce nom à PORTAL_HOSTS dans config/config.txt.";

    // What is going on, and what to do about it.
    running: "Everything is running.", "Усе працює.", "Tout fonctionne.";
    running_advice: "Nothing needs to be done.", "Нічого робити не потрібно.", "Il n’y a rien à faire.";
    starting: "Starting up: {}.", "Запускається: {}.", "Démarrage en cours\u{a0}: {}.";
    starting_advice: "Wait a minute.", "Зачекайте хвилину.", "Attendez une minute.";
    unsupervised: "The portal runs without supervision, so it cannot say how the plant is.",
        "Портал працює без нагляду, тому не може сказати, що з установкою.",
        "Le portail fonctionne sans surveillance et ne peut donc pas dire comment va l’installation.";
    unsupervised_advice: "Start the Plantlink service on this PC.", "Запустіть службу Plantlink на цьому ПК.",
        "Démarrez le service Plantlink sur ce PC.";
    unlicensed: "Nothing is collected: there is no valid licence.", "Дані не збираються: немає чинної ліцензії.",
        "Rien n’est collecté\u{a0}: il n’y a pas de licence valide.";
    unlicensed_advice: "Call headquarters; they can send a licence to this PC. Nothing is wrong with the machines.",
        "Зателефонуйте до центрального офісу: вони надішлють ліцензію на цей ПК. З обладнанням усе гаразд.",
        "Appelez le siège\u{a0}; il peut envoyer une licence à ce PC. Les machines n’ont rien.";
    licence_invalid: "The licence is not valid; what runs goes on until it is restarted.",
        "Ліцензія нечинна; те, що працює, працюватиме до перезапуску.",
        "La licence n’est pas valide\u{a0}; ce qui fonctionne continue jusqu’au redémarrage.";
    bad_configuration: "Stopped because of a mistake in the settings: {}.", "Зупинено через помилку в налаштуваннях: {}.",
        "Arrêté à cause d’une erreur de configuration\u{a0}: {}.";
    bad_configuration_advice: "Run “watchdog check-config”: it names the file and the line. Once that is mended, it starts by itself.",
        "Виконайте «watchdog check-config»: буде названо файл і рядок. Після виправлення все запуститься само.",
        "Exécutez «\u{a0}watchdog check-config\u{a0}»\u{a0}: il indique le fichier et la ligne. Une fois corrigé, tout redémarre seul.";
    crash_loop: "Keeps stopping, and is tried again every five minutes: {}.",
        "Постійно зупиняється, нова спроба кожні п’ять хвилин: {}.",
        "S’arrête sans cesse, nouvelle tentative toutes les cinq minutes\u{a0}: {}.";
    crash_loop_advice: "Call the person who looks after this PC; the reason is in the folder “logs”.",
        "Зателефонуйте тому, хто обслуговує цей ПК; причина записана в теці «logs».",
        "Appelez la personne qui s’occupe de ce PC\u{a0}; la raison se trouve dans le dossier «\u{a0}logs\u{a0}».";
    down: "Not running: {}.", "Не працює: {}.", "À l’arrêt\u{a0}: {}.";
    down_advice: "It is started again by itself. If this stays for five minutes, call the person who looks after this PC.",
        "Запуститься автоматично. Якщо за п’ять хвилин нічого не зміниться, зателефонуйте тому, хто обслуговує цей ПК.",
        "Le redémarrage est automatique. Si rien ne change en cinq minutes, appelez la personne qui s’occupe de ce PC.";
    not_ready: "Runs, but cannot do its work: {}.", "Працює, але не може виконувати свою роботу: {}.",
        "Fonctionne, mais ne peut pas faire son travail\u{a0}: {}.";
    source_down: "No answer from: {}.", "Не відповідає: {}.", "Pas de réponse de\u{a0}: {}.";
    source_down_advice: "Check that the device has power and that its network cable is plugged in.",
        "Перевірте, чи є в пристрою живлення і чи під’єднано мережевий кабель.",
        "Vérifiez que l’appareil est sous tension et que son câble réseau est branché.";
    store_away: "The database takes no readings. They are kept in the buffer, and nothing is lost yet.",
        "База даних не приймає показань. Вони зберігаються в буфері, нічого ще не втрачено.",
        "La base de données n’accepte pas de mesures. Elles sont gardées dans le tampon, rien n’est encore perdu.";
    store_away_advice: "Check that the database runs and that its disk has room. There is buffer for {} more.",
        "Перевірте, чи працює база даних і чи є місце на диску. Буфера вистачить ще на {}.",
        "Vérifiez que la base de données fonctionne et que son disque a de la place. Il reste {} de tampon.";
    dropped: "The buffer was full, and readings were lost: {}.", "Буфер був переповнений, втрачено показань: {}.",
        "Le tampon était plein, mesures perdues\u{a0}: {}.";
    dropped_advice: "Tell headquarters; they see the gap as well.", "Повідомте центральний офіс; там теж видно прогалину.",
        "Prévenez le siège\u{a0}; il voit aussi la lacune.";
    set_aside: "The database refuses some readings; they are put aside: {}.",
        "База даних не приймає деяких показань; їх відкладено: {}.",
        "La base de données refuse certaines mesures, mises de côté\u{a0}: {}.";
    set_aside_advice: "Tell the person who looks after this PC; nothing else is kept waiting.",
        "Повідомте того, хто обслуговує цей ПК; решта записується далі.",
        "Prévenez la personne qui s’occupe de ce PC\u{a0}; le reste continue d’être enregistré.";
    reported: "Running, but something needs a look.", "Працює, але дещо потребує уваги.",
        "En marche, mais un point demande votre attention.";
    reported_advice: "See the messages below, and read them to the person who looks after this PC.",
        "Прочитайте повідомлення нижче тому, хто обслуговує цей ПК.",
        "Lisez les messages ci-dessous à la personne qui s’occupe de ce PC.";

    // The overview.
    also: "Also", "Також", "De plus";
    messages: "Messages", "Повідомлення", "Messages";
    rate: "Readings a second", "Показань за секунду", "Mesures par seconde";
    last_pulled: "Headquarters last fetched data", "Центральний офіс востаннє забрав дані", "Dernier relevé par le siège";
    not_yet: "not yet", "ще ні", "pas encore";
    buffer_left: "Room left in the buffer", "Залишок місця в буфері", "Place restante dans le tampon";
    buffer_idle: "nothing comes in", "нічого не надходить", "rien n’arrive";
    waiting: "Readings waiting in the buffer", "Показань чекає в буфері", "Mesures en attente dans le tampon";
    version: "Version", "Версія", "Version";
    on_trial: "on trial", "випробовується", "à l’essai";
    unknown: "not known", "невідомо", "inconnu";
    programs: "Programs", "Програми", "Programmes";
    since: "for {}", "уже {}", "depuis {}";
    restarts: "restarts: {}", "перезапусків: {}", "redémarrages\u{a0}: {}";
    collector: "Collector", "Збирач", "Collecteur";
    collector_task: "reads the devices", "опитує пристрої", "interroge les appareils";
    agent: "Agent", "Агент", "Agent";
    agent_task: "hands the data to headquarters", "передає дані центральному офісу", "remet les données au siège";
    portal: "Portal", "Портал", "Portail";
    portal_task: "shows these pages", "показує ці сторінки", "affiche ces pages";
    state_starting: "starting", "запускається", "démarre";
    state_running: "running", "працює", "en marche";
    state_not_ready: "cannot do its work", "не може працювати", "ne peut pas travailler";
    state_waiting: "stopped; will start again", "зупинено; запуститься знову", "arrêté\u{a0}; va redémarrer";
    state_crash_loop: "keeps stopping", "постійно зупиняється", "s’arrête sans cesse";
    state_bad_configuration: "mistake in the settings", "помилка в налаштуваннях", "erreur de configuration";
    state_unlicensed: "no valid licence", "немає чинної ліцензії", "pas de licence valide";
    state_stopped: "not running", "не працює", "à l’arrêt";

    // The readings.
    filter: "Show only tags with", "Лише теги з", "Seulement les repères avec";
    filter_button: "Filter", "Фільтрувати", "Filtrer";
    tag: "Tag", "Тег", "Repère";
    value: "Value", "Значення", "Valeur";
    quality: "Quality", "Якість", "Qualité";
    age: "Age", "Вік", "Âge";
    shown: "Tags shown: {}", "Показано тегів: {}", "Repères affichés\u{a0}: {}";
    of: "of {}", "із {}", "sur {}";
    previous: "Previous", "Назад", "Précédents";
    next: "Next", "Далі", "Suivants";
    no_tags: "No values are there yet.", "Значень ще немає.", "Il n’y a pas encore de valeurs.";
    no_match: "No tag has that in its name.", "Немає тегів із таким ім’ям.", "Aucun repère ne porte ce nom.";
    good: "good", "добра", "bonne";
    uncertain: "uncertain", "непевна", "incertaine";
    bad: "bad", "погана", "mauvaise";
    no_answer: "no answer", "немає відповіді", "pas de réponse";
    collector_silent: "The collector does not answer.", "Збирач не відповідає.", "Le collecteur ne répond pas.";
    values_old: "The values below are old: look at their age.", "Значення нижче застаріли: дивіться на їхній вік.",
        "Les valeurs ci-dessous sont anciennes\u{a0}: regardez leur âge.";
    collector_unknown: "The portal runs without supervision, so it does not know where the values are. Start the Plantlink service on this PC.",
        "Портал працює без нагляду й не знає, де значення. Запустіть службу Plantlink на цьому ПК.",
        "Le portail fonctionne sans surveillance et ne sait pas où sont les valeurs. Démarrez le service Plantlink sur ce PC.";

    // A tag's trend.
    trend: "Trend", "Графік", "Courbe";
    period: "Period", "Період", "Période";
    look_elsewhere: "Look elsewhere", "Інший проміжок", "Voir ailleurs";
    earlier: "Earlier", "Раніше", "Plus tôt";
    later_on: "Later on", "Згодом", "Ensuite";
    closer: "Closer", "Ближче", "Plus près";
    wider: "Wider", "Ширше", "Plus large";
    trend_of: "Trend of {}", "Графік: {}", "Courbe de {}";
    smallest: "Smallest", "Найменше", "Minimum";
    largest: "Largest", "Найбільше", "Maximum";
    band_means: "from smallest to largest", "від найменшого до найбільшого", "du minimum au maximum";
    nothing_means: "no values", "значень немає", "pas de valeurs";
    poor_means: "bad quality", "погана якість", "mauvaise qualité";
    zoom_means: "Drag over the chart to look closer.", "Проведіть по графіку, щоб розгледіти ближче.",
        "Glissez sur la courbe pour voir de plus près.";
    nothing_then: "Nothing was stored in this period.", "За цей період нічого не збережено.",
        "Rien n’a été enregistré pendant cette période.";
    no_trend: "The trend cannot be read at present.", "Зараз графік прочитати не вдається.",
        "La courbe ne peut pas être lue pour l’instant.";
    no_such_tag: "Nothing was ever stored of this tag.", "Для цього тега ще нічого не збережено.",
        "Rien n’a jamais été enregistré pour ce repère.";
    no_value_now: "No value at present.", "Зараз значення немає.", "Pas de valeur pour l’instant.";
    download: "Download as CSV", "Завантажити як CSV", "Télécharger en CSV";
    all_tags: "All tags", "Усі теги", "Tous les repères";

    // Who has fetched what.
    sessions: "Sessions", "Сеанси", "Sessions";
    no_sessions: "Headquarters has not been here yet.", "Центральний офіс ще не під’єднувався.",
        "Le siège n’est pas encore venu.";
    from_where: "From", "Звідки", "Depuis";
    key: "Key", "Ключ", "Clé";
    session_whole: "complete", "повністю", "complet";
    session_nothing: "asked for nothing", "нічого не запитано", "rien demandé";
    session_queued: "waits for the operator", "чекає на оператора", "attend l’opérateur";
    duration: "Duration", "Тривалість", "Durée";
    is_silent: "No answer from: {}. It is tried again by itself.", "Не відповідає: {}. Нова спроба буде автоматично.",
        "Pas de réponse de\u{a0}: {}. Une nouvelle tentative suit d’elle-même.";

    // What has happened.
    events: "Events", "Події", "Événements";
    no_events: "Nothing has happened yet.", "Подій ще не було.", "Il ne s’est encore rien passé.";
    event: "What happened", "Що сталося", "Ce qui s’est passé";
    detail: "Detail", "Подробиці", "Détail";
    watchdog: "Watchdog", "Наглядач", "Surveillant";
    event_started: "Plantlink {} has started.", "Plantlink {} запущено.", "Plantlink {} a démarré.";
    event_stopped: "Plantlink was stopped.", "Plantlink зупинено.", "Plantlink a été arrêté.";
    event_restarted: "Restarted: {}.", "Перезапущено: {}.", "Redémarré\u{a0}: {}.";
    event_fell: "Ended by itself and was started again: {}.", "Завершилося саме й запущено знову: {}.",
        "S’est arrêté de lui-même et a été relancé\u{a0}: {}.";
    event_hung: "did not answer", "не відповідало", "ne répondait plus";
    event_mistake: "A mistake in the settings; they are not taken up.", "Помилка в налаштуваннях; їх не застосовано.",
        "Une erreur de configuration\u{a0}; elle n’est pas prise en compte.";
    event_taken: "New settings were taken up.", "Застосовано нові налаштування.", "Une nouvelle configuration est prise en compte.";
    event_source_back: "Answers again: {}.", "Знову відповідає: {}.", "Répond de nouveau\u{a0}: {}.";
    event_source_gone: "Not asked any more: {}.", "Більше не опитується: {}.", "N’est plus interrogé\u{a0}: {}.";
    event_restart_asked: "A restart of everything was asked for.", "Запитано перезапуск усього.",
        "Un redémarrage général a été demandé.";
    event_pin_changed: "The PIN was changed.", "PIN-код змінено.", "Le code PIN a été changé.";
    in_the_portal: "on these pages", "на цих сторінках", "sur ces pages";
    on_this_pc: "on this PC", "на цьому ПК", "sur ce PC";
    from_elsewhere: "from another machine", "з іншої машини", "depuis une autre machine";
    event_database_away: "The database takes no readings; they are kept in the buffer.",
        "База даних не приймає показань; вони зберігаються в буфері.",
        "La base de données n’accepte pas de mesures\u{a0}; elles sont gardées dans le tampon.";
    event_database_back: "The database takes readings again.", "База даних знову приймає показання.",
        "La base de données accepte de nouveau les mesures.";
    event_losing: "Readings are being lost: there is no room for them.", "Показання втрачаються: для них немає місця.",
        "Des mesures sont perdues\u{a0}: il n’y a plus de place.";
    event_lost: "Readings were lost: {}.", "Втрачено показань: {}.", "Mesures perdues\u{a0}: {}.";
    event_clock: "The clock of this PC jumped by {} s.", "Годинник цього ПК стрибнув на {} с.",
        "L’horloge de ce PC a sauté de {} s.";
    event_approved: "The update to version {} was approved.", "Оновлення до версії {} схвалено.",
        "La mise à jour vers la version {} a été approuvée.";
    event_refused: "A package was refused: {}.", "Пакет відхилено: {}.", "Un paquet a été refusé\u{a0}: {}.";
    event_locked: "Too many wrong PINs: locked for {}.", "Забагато неправильних PIN-кодів: заблоковано на {}.",
        "Trop de codes PIN erronés\u{a0}: bloqué pendant {}.";

    // The settings.
    settings: "Settings", "Налаштування", "Réglages";
    language_of_browser: "Kept for this browser. The language of this PC stands in config/config.txt.",
        "Зберігається для цього браузера. Мова цього ПК задана в config/config.txt.",
        "Gardée pour ce navigateur. La langue de ce PC est dans config/config.txt.";
    change_pin: "Change the PIN", "Змінити PIN-код", "Changer le code PIN";
    pin_now: "PIN until now", "Поточний PIN-код", "Code PIN actuel";
    pin_new: "New PIN, 4 to 12 digits", "Новий PIN-код, від 4 до 12 цифр", "Nouveau code PIN, de 4 à 12 chiffres";
    pin_again: "New PIN once more", "Новий PIN-код ще раз", "Nouveau code PIN encore une fois";
    pins_differ: "The two new PINs are not the same.", "Два нові PIN-коди не збігаються.", "Les deux nouveaux codes PIN diffèrent.";
    pin_changed: "The PIN is changed.", "PIN-код змінено.", "Le code PIN est changé.";
    no_such_pin: "A PIN has 4 to 12 digits.", "PIN-код має від 4 до 12 цифр.", "Un code PIN a de 4 à 12 chiffres.";
    pin_forgotten: "A PIN that nobody remembers is set anew on this PC with “watchdog reset-pin”.",
        "Якщо PIN-код забуто, новий задають на цьому ПК командою «watchdog reset-pin».",
        "Un code PIN oublié se redéfinit sur ce PC avec «\u{a0}watchdog reset-pin\u{a0}».";
    script_for_pin: "To change the PIN, allow JavaScript in this browser.", "Щоб змінити PIN-код, увімкніть JavaScript у цьому браузері.",
        "Pour changer le code PIN, autorisez JavaScript dans ce navigateur.";
    sources_mistake: "A mistake in sources.toml: the changes are not taken up, and everything goes on as before.",
        "Помилка в sources.toml: зміни не застосовано, усе працює, як раніше.",
        "Une erreur dans sources.toml\u{a0}: les changements ne sont pas pris en compte, tout continue comme avant.";

    // The handbook.
    help: "Help", "Довідка", "Aide";
    help_what: "This PC reads the machines and keeps what it reads, so that headquarters can fetch it. It controls nothing: whatever you do on these pages, the machines go on.",
        "Цей ПК зчитує дані машин і зберігає їх, щоб центральний офіс міг їх забрати. Він нічим не керує: хай що ви робите на цих сторінках, машини працюють далі.",
        "Ce PC lit les machines et garde ce qu’il lit, pour que le siège vienne le chercher. Il ne commande rien\u{a0}: quoi que vous fassiez sur ces pages, les machines continuent.";
    help_colours_title: "Grey is good", "Сіре — це добре", "Gris, c’est bon";
    help_colours: "Everything that is as it should be is grey. Yellow wants a look today; red wants somebody now. The large sentence on the overview says what it is, and the one below it what to do.",
        "Усе, що в порядку, — сіре. Жовте потребує уваги сьогодні; червоне — негайно. Велике речення на огляді каже, що сталося, а речення під ним — що робити.",
        "Tout ce qui va bien est gris. Le jaune demande un coup d’œil aujourd’hui\u{a0}; le rouge, quelqu’un tout de suite. La grande phrase de la vue d’ensemble dit ce que c’est, et celle du dessous ce qu’il faut faire.";
    help_wrong_title: "A device does not answer", "Пристрій не відповідає", "Un appareil ne répond pas";
    help_wrong: "Check that it has power and that its network cable is plugged in. It is asked again by itself; nothing has to be restarted. If the database is away, readings wait in a buffer; the overview says for how many hours.",
        "Перевірте живлення та мережевий кабель. Опитування відновиться саме; перезапускати нічого не треба. Якщо база даних недоступна, показання чекають у буфері; на огляді видно, на скільки годин його вистачить.",
        "Vérifiez qu’il est sous tension et que son câble réseau est branché. Il est interrogé de nouveau de lui-même\u{a0}; rien n’est à redémarrer. Si la base de données est absente, les mesures attendent dans un tampon\u{a0}; la vue d’ensemble dit pour combien d’heures.";
    help_update_title: "An update has come", "Надійшло оновлення", "Une mise à jour est arrivée";
    help_update_read: "The header of every page says so. Open “Update” and read what it brings, and from whom.",
        "Про це каже заголовок кожної сторінки. Відкрийте «Оновлення» і прочитайте, що воно змінює і від кого воно.",
        "L’en-tête de chaque page le dit. Ouvrez «\u{a0}Mise à jour\u{a0}» et lisez ce qu’elle apporte, et de qui.";
    help_update_apply: "When it suits you, press Apply and enter the PIN. With Later, nothing changes until you come back to it.",
        "Коли вам зручно, натисніть «Застосувати» і введіть PIN-код. Якщо «Пізніше» — нічого не зміниться, доки ви не повернетеся.",
        "Quand cela vous convient, appuyez sur «\u{a0}Installer\u{a0}» et saisissez le code PIN. Avec «\u{a0}Plus tard\u{a0}», rien ne change jusqu’à votre retour.";
    help_update_wait: "A bar shows how far it is. Readings go on being collected. The page comes back by itself and shows the new version.",
        "Смуга показує хід. Збирання показань триває. Сторінка відновиться сама й покаже нову версію.",
        "Une barre montre l’avancement. La collecte des mesures continue. La page revient d’elle-même et montre la nouvelle version.";
    help_update_failed: "If the new version does not run as it should, the previous one comes back by itself, and the page says what happened. You may switch the PC off at any moment; it finds its way.",
        "Якщо нова версія працює не так, як слід, попередня повернеться сама, а сторінка скаже, що сталося. Вимкнути ПК можна будь-якої миті; він упорається.",
        "Si la nouvelle version ne fonctionne pas comme il faut, la précédente revient d’elle-même, et la page dit ce qui s’est passé. Vous pouvez éteindre le PC à tout moment\u{a0}; il s’y retrouve.";
    help_readings_title: "Values and trends", "Значення та графіки", "Valeurs et courbes";
    help_readings: "“Readings” shows every value as it is now; type a part of a name to find it. Press a name to see what it did over hours or months; yellow stretches had bad quality, grey ones no values.",
        "«Показання» показують кожне значення зараз; наберіть частину назви, щоб знайти його. Натисніть назву, щоб побачити години чи місяці; жовті ділянки — погана якість, сірі — значень немає.",
        "«\u{a0}Mesures\u{a0}» montre chaque valeur actuelle\u{a0}; tapez une partie d’un nom pour la trouver. Appuyez sur un nom pour voir des heures ou des mois\u{a0}; les parties jaunes étaient de mauvaise qualité, les grises sans valeur.";
    help_pin_title: "The PIN", "PIN-код", "Le code PIN";
    help_pin: "It is asked for where something is decided. After five wrong ones it is locked for a while, and for longer each time. It can be changed under “Settings”.",
        "Його питають там, де щось вирішують. Після п’яти помилок він блокується на якийсь час, щоразу на довший. Змінити його можна в «Налаштуваннях».",
        "Il est demandé là où quelque chose se décide. Après cinq erreurs, il est bloqué un moment, chaque fois plus longtemps. On le change sous «\u{a0}Réglages\u{a0}».";
    help_call_title: "When you call somebody", "Коли ви телефонуєте", "Quand vous appelez quelqu’un";
    help_call: "Read out the large sentence and the version from the overview, and the newest lines of “Events”.",
        "Прочитайте велике речення та версію з огляду, а також найновіші рядки «Подій».",
        "Lisez la grande phrase et la version de la vue d’ensemble, et les dernières lignes des «\u{a0}Événements\u{a0}».";

    // Updates: in the header of every page, and on the overview.
    update: "Update", "Оновлення", "Mise à jour";
    badge_waiting: "Update received v{}", "Отримано оновлення v{}", "Mise à jour reçue v{}";
    badge_postponed: "Update v{} put off", "Оновлення v{} відкладено", "Mise à jour v{} reportée";
    badge_under_way: "Updating… {} %", "Оновлення… {} %", "Mise à jour… {} %";
    badge_back: "Going back…", "Повернення…", "Retour en arrière…";
    badge_failed: "Update v{} failed", "Оновлення v{} не вдалося", "Échec de la mise à jour v{}";
    badge_done: "Updated to v{}", "Оновлено до v{}", "Mise à jour v{} terminée";
    update_waiting: "An update to version {} has been received.", "Отримано оновлення до версії {}.",
        "Une mise à jour vers la version {} est arrivée.";
    update_waiting_advice: "Apply it on the page “Update” when it suits you. Until then, nothing changes.",
        "Застосуйте його на сторінці «Оновлення», коли вам зручно. До того нічого не зміниться.",
        "Installez-la depuis la page «\u{a0}Mise à jour\u{a0}» quand cela vous convient. D’ici là, rien ne change.";
    updating_to: "The update to version {} is under way.", "Триває оновлення до версії {}.",
        "La mise à jour vers la version {} est en cours.";
    updating: "An update is under way.", "Триває оновлення.", "Une mise à jour est en cours.";
    updating_advice: "Readings go on being collected. The programs restart once; nothing needs to be done.",
        "Збирання показань триває. Програми один раз перезапустяться; нічого робити не потрібно.",
        "La collecte des mesures continue. Les programmes redémarrent une fois\u{a0}; il n’y a rien à faire.";
    update_back: "The update is being taken back.", "Оновлення скасовується.", "La mise à jour est en cours d’annulation.";
    update_back_advice: "The previous version returns by itself. Readings go on being collected.",
        "Попередня версія повернеться сама. Збирання показань триває.",
        "La version précédente revient d’elle-même. La collecte des mesures continue.";
    update_failed: "The update to version {} failed.", "Оновлення до версії {} не вдалося.",
        "La mise à jour vers la version {} a échoué.";
    update_failed_advice: "The page “Update” says what happened.", "На сторінці «Оновлення» написано, що сталося.",
        "La page «\u{a0}Mise à jour\u{a0}» dit ce qui s’est passé.";
    previous_runs: "Version {} runs as before, and no readings were lost.", "Версія {} працює, як і раніше; показання не втрачено.",
        "La version {} fonctionne comme avant, et aucune mesure n’est perdue.";

    // The update page.
    update_none: "No update is waiting.", "Немає оновлень, що чекають.", "Aucune mise à jour n’attend.";
    update_none_advice: "Version {} runs. When headquarters sends an update, it shows here by itself.",
        "Працює версія {}. Коли центральний офіс надішле оновлення, воно з’явиться тут само.",
        "La version {} fonctionne. Quand le siège envoie une mise à jour, elle apparaît ici d’elle-même.";
    update_read: "Read what it brings, then apply it, or leave it for later. Readings go on being collected meanwhile.",
        "Прочитайте, що воно змінює, і застосуйте його або залиште на потім. Збирання показань тим часом триває.",
        "Lisez ce qu’elle apporte, puis installez-la ou remettez-la à plus tard. La collecte des mesures continue pendant ce temps.";
    update_postponed: "The update to version {} has been put off.", "Оновлення до версії {} відкладено.",
        "La mise à jour vers la version {} est reportée.";
    update_postponed_advice: "Apply it when it suits you. Until then, nothing changes.",
        "Застосуйте його, коли вам зручно. До того нічого не зміниться.",
        "Installez-la quand cela vous convient. D’ici là, rien ne change.";
    update_done: "Update to version {} done.", "Оновлення до версії {} виконано.", "Mise à jour vers la version {} terminée.";
    script_needed: "To apply an update, allow JavaScript in this browser.", "Щоб застосувати оновлення, увімкніть JavaScript у цьому браузері.",
        "Pour installer une mise à jour, autorisez JavaScript dans ce navigateur.";
    unbound: "This update does not say for which version it was made. Apply it only if headquarters has told you that it fits version {}.",
        "В оновленні не вказано, для якої версії його зроблено. Застосовуйте його, лише якщо центральний офіс підтвердив, що воно підходить до версії {}.",
        "Cette mise à jour ne dit pas pour quelle version elle est faite. Ne l’installez que si le siège vous a confirmé qu’elle convient à la version {}.";
    keys_received: "Headquarters wants to change its signing keys. No program changes.",
        "Центральний офіс хоче змінити свої ключі підпису. Програми не змінюються.",
        "Le siège veut changer ses clés de signature. Aucun programme ne change.";
    keys_postponed: "The change of signing keys has been put off. Updates that come meanwhile wait behind it.",
        "Зміну ключів підпису відкладено. Оновлення, що надійдуть тим часом, чекають після неї.",
        "Le changement des clés de signature est reporté. Les mises à jour qui arrivent attendent derrière lui.";
    keys_failed: "The change of signing keys failed.", "Змінити ключі підпису не вдалося.",
        "Le changement des clés de signature a échoué.";
    keys_done: "The signing keys have been changed.", "Ключі підпису змінено.", "Les clés de signature ont été changées.";
    badge_keys: "Change of keys received", "Отримано зміну ключів", "Changement de clés reçu";
    put_back: "Version {} was put back on site.", "Версію {} повернуто на місці.", "La version {} a été remise sur place.";
    until_now: "{} (until now {})", "{} (досі {})", "{} (jusqu’ici {})";
    fewer_signatures: "From then on fewer signatures are required than until now.",
        "Відтоді потрібно менше підписів, ніж досі.",
        "Il faudra alors moins de signatures qu’aujourd’hui.";
    keys_only: "This update changes no program. It changes whose signatures count for the next updates. Apply it only if headquarters has told you that it would come. If not, press Later and call headquarters.",
        "Це оновлення не змінює програм. Воно змінює, чиї підписи діють для наступних оновлень. Застосовуйте його, лише якщо центральний офіс попередив вас про нього. Якщо ні, натисніть «Пізніше» і зателефонуйте до центрального офісу.",
        "Cette mise à jour ne change aucun programme. Elle change les signatures qui comptent pour les prochaines mises à jour. Ne l’installez que si le siège vous l’a annoncée. Sinon, appuyez sur «\u{a0}Plus tard\u{a0}» et appelez le siège.";
    floor_lowered: "Versions from {} on will be taken again, though a higher one has run here.",
        "Знову прийматимуться версії, починаючи з {}, хоча тут уже працювала вища.",
        "Les versions à partir de {} seront de nouveau acceptées, bien qu’une plus haute ait fonctionné ici.";
    keys_required: "Signatures required: {}", "Потрібно підписів: {}", "Signatures exigées\u{a0}: {}";
    keys_added: "Keys added: {}", "Додано ключів: {}", "Clés ajoutées\u{a0}: {}";
    keys_kept: "Keys kept: {}", "Залишено ключів: {}", "Clés conservées\u{a0}: {}";
    keys_removed: "Keys removed: {}", "Вилучено ключів: {}", "Clés supprimées\u{a0}: {}";
    new_version: "New version", "Нова версія", "Nouvelle version";
    running_version: "Running version", "Поточна версія", "Version en cours";
    received: "Received", "Отримано", "Reçue";
    apply_before: "Apply before", "Застосувати до", "À installer avant";
    size: "Size", "Розмір", "Taille";
    signed_by: "Signed with key", "Підписано ключем", "Signée avec la clé";
    notes: "Notes from headquarters", "Примітки центрального офісу", "Notes du siège";
    no_notes: "There are none.", "Приміток немає.", "Il n’y en a pas.";
    changes: "What it changes", "Що воно змінює", "Ce qu’elle change";
    added: "Files added: {}", "Додано файлів: {}", "Fichiers ajoutés\u{a0}: {}";
    changed: "Files changed: {}", "Змінено файлів: {}", "Fichiers modifiés\u{a0}: {}";
    removed: "Files removed: {}", "Вилучено файлів: {}", "Fichiers supprimés\u{a0}: {}";
    migrations: "Database changes: {}", "Змін у базі даних: {}", "Changements de la base de données\u{a0}: {}";
    and_more: "and {} more", "і ще {}", "et {} de plus";
    apply: "Apply", "Застосувати", "Installer";
    apply_again: "Try again", "Спробувати ще раз", "Réessayer";
    later: "Later", "Пізніше", "Plus tard";
    pin: "PIN", "PIN-код", "Code PIN";
    pin_to_apply: "Apply version {}", "Застосувати версію {}", "Installer la version {}";
    pin_for_later: "Put version {} off", "Відкласти версію {}", "Reporter la version {}";
    confirm: "Confirm", "Підтвердити", "Confirmer";
    cancel: "Cancel", "Скасувати", "Annuler";
    erase: "Erase the last digit", "Стерти останню цифру", "Effacer le dernier chiffre";
    progress: "Progress of the update", "Хід оновлення", "Avancement de la mise à jour";
    finished: "(finished)", "(виконано)", "(terminé)";
    step_verify: "Check the package", "Перевірка пакета", "Vérifier le paquet";
    step_backup: "Back up the running version", "Резервна копія поточної версії", "Sauvegarder la version en cours";
    step_patch: "Put the new files in place", "Встановлення нових файлів", "Mettre en place les nouveaux fichiers";
    step_version: "Note the new version", "Запис нової версії", "Noter la nouvelle version";
    step_migrate: "Change the database", "Зміни в базі даних", "Adapter la base de données";
    step_restart: "Restart the programs", "Перезапуск програм", "Redémarrer les programmes";
    step_confirm: "Watch the new version at work", "Спостереження за роботою нової версії", "Observer la nouvelle version au travail";
    step_done: "Done", "Готово", "Terminé";
    failed_verify: "The package did not pass its check, so nothing was changed.", "Пакет не пройшов перевірку, тому нічого не змінено.",
        "Le paquet n’a pas passé la vérification\u{a0}; rien n’a été changé.";
    failed_backup: "No backup could be made, so nothing was changed.", "Не вдалося створити резервну копію, тому нічого не змінено.",
        "La sauvegarde n’a pas pu être faite\u{a0}; rien n’a été changé.";
    failed_patch: "The new files could not be put in place.", "Не вдалося встановити нові файли.",
        "Les nouveaux fichiers n’ont pas pu être mis en place.";
    failed_migrate: "The database could not be changed; it is as it was.", "Не вдалося змінити базу даних; вона така, як була.",
        "La base de données n’a pas pu être adaptée\u{a0}; elle est comme avant.";
    failed_restart: "The new version did not start, so it was taken back.", "Нова версія не запустилася, тому її скасовано.",
        "La nouvelle version n’a pas démarré et a été annulée.";
    failed_confirm: "The new version did not run as it should, so it was taken back.", "Нова версія працювала не так, як слід, тому її скасовано.",
        "La nouvelle version n’a pas fonctionné comme il faut et a été annulée.";
    failed_somehow: "It could not be completed.", "Його не вдалося завершити.", "Elle n’a pas pu être menée à bien.";
    history: "Updates so far", "Попередні оновлення", "Mises à jour précédentes";
    time: "Time", "Час", "Date";
    from_version: "From", "З версії", "De";
    to_version: "To", "До версії", "Vers";
    outcome: "Outcome", "Результат", "Résultat";
    error: "What happened", "Що сталося", "Ce qui s’est passé";
    attempt_ok: "done", "виконано", "réussie";
    attempt_failed: "failed", "не вдалося", "échouée";

    // Why something that was asked for is not done.
    pin_required: "Enter the PIN.", "Введіть PIN-код.", "Entrez le code PIN.";
    wrong_pin: "Wrong PIN. Tries left: {}.", "Неправильний PIN-код. Залишилося спроб: {}.",
        "Code PIN incorrect. Essais restants\u{a0}: {}.";
    locked_out: "Too many wrong PINs. Wait {}, then try again.", "Забагато неправильних PIN-кодів. Зачекайте {} і спробуйте знову.",
        "Trop de codes PIN incorrects. Attendez {}, puis réessayez.";
    replaced: "Another update has come in the meantime, so nothing was applied. Read the new one below.",
        "Тим часом надійшло інше оновлення, тому нічого не застосовано. Прочитайте нове нижче.",
        "Une autre mise à jour est arrivée entre-temps\u{a0}; rien n’a été installé. Lisez la nouvelle ci-dessous.";
    refused: "This cannot be done now.", "Зараз це неможливо.", "Ce n’est pas possible maintenant.";
    hash_required: "More than one update has come. Read the one that waits, and try again.",
        "Надійшло кілька оновлень. Прочитайте те, що чекає, і спробуйте ще раз.",
        "Plusieurs mises à jour sont arrivées. Lisez celle qui attend, puis réessayez.";
    not_understood: "The portal did not understand this.", "Портал цього не зрозумів.", "Le portail n’a pas compris.";
    nobody_decides: "The Plantlink service does not answer. Wait a minute, then try again.",
        "Служба Plantlink не відповідає. Зачекайте хвилину і спробуйте ще раз.",
        "Le service Plantlink ne répond pas. Attendez une minute, puis réessayez.";
    portal_silent: "The portal does not answer. Wait a minute, then try again.",
        "Портал не відповідає. Зачекайте хвилину і спробуйте ще раз.",
        "Le portail ne répond pas. Attendez une minute, puis réessayez.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_empty_and_all_languages_have_the_same_gaps() {
        for (name, [english, others @ ..]) in TABLE {
            assert!(!english.is_empty(), "{name}");
            for other in others {
                assert!(!other.is_empty(), "{name}");
                assert_eq!(other.matches("{}").count(), english.matches("{}").count(), "{name}");
            }
        }
    }
}
