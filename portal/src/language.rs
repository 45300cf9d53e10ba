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
    last_heard: "Last news at", "Останні дані о", "Dernières nouvelles à";
    not_found: "There is no such page.", "Такої сторінки немає.", "Cette page n’existe pas.";
    to_overview: "Go to the overview", "Перейти до огляду", "Aller à la vue d’ensemble";
    foreign_host: "This portal does not answer to the name in your address bar. Open it as localhost, or add the name to PORTAL_HOSTS in config/config.txt and restart.",
        "Портал не відповідає на ім’я у вашому адресному рядку. Відкрийте його як localhost або додайте це ім’я до PORTAL_HOSTS у config/config.txt і перезапустіть.",
        "Ce portail ne répond pas au nom de votre barre d’adresse. Ouvrez-le en tant que localhost, ou ajoutez ce nom à PORTAL_HOSTS dans config/config.txt et redémarrez.";

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
