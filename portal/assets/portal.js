"use strict";

// Keeps the parts of the page that live up to date, and says so when they no longer are. Everything can be read without
// this.
const live = document.getElementById("live");
const badge = document.getElementById("badge");
const lost = document.getElementById("lost");
const restarting = document.getElementById("restarting");
const filter = document.getElementById("filter");
const { view, build } = document.body.dataset;

const SILENCE_LIMIT = 12_000; // the portal says something every five seconds
const RETRY_AFTER = 2_000;
const RESTART_LIMIT = 180_000; // an update is not what keeps a portal away for longer

let events = null;
let retry = null;
let heardAt = new Date();

function heard() {
    heardAt = new Date();
    lost.hidden = restarting.hidden = true;
    document.body.classList.remove("stale");
}

function silent() {
    document.getElementById("heard").textContent = heardAt.toLocaleTimeString(document.documentElement.lang);
    restarting.hidden = !(underWay() && new Date() - heardAt < RESTART_LIMIT);
    lost.hidden = !restarting.hidden;
    document.body.classList.add("stale");
    close();
    retry = setTimeout(open, RETRY_AFTER);
}

function underWay() {
    return badge.querySelector("[data-under-way]") !== null;
}

function close() {
    clearTimeout(retry);
    events?.close();
    events = null;
}

function open() {
    close();
    const query = new URLSearchParams(location.search);
    query.set("view", view);
    events = new EventSource("/events?" + query);
    events.onerror = silent;
    events.addEventListener("beat", heard);
    events.addEventListener("update", ({ data }) => {
        const update = JSON.parse(data);
        if (update.build !== build) return location.reload();
        heard();
        const updating = underWay();
        show(badge, update.badge);
        if (live) show(live, update.html);
        // Whatever this page still has from before the update goes.
        if (updating && !underWay()) location.reload();
    });
}

function show(old, html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").body;
    tellLocalTime(fresh);
    morphChildren(old, fresh);
}

function tellLocalTime(within) {
    const style = { dateStyle: "medium", timeStyle: "short" };
    for (const moment of within.querySelectorAll("time.moment")) {
        moment.textContent = new Date(moment.dateTime).toLocaleString(document.documentElement.lang, style);
    }
}

// Changes only what differs, so that focus, selection and scroll position stay.
function morph(old, fresh) {
    if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType === Node.TEXT_NODE) {
        if (old.data !== fresh.data) old.data = fresh.data;
        return;
    }
    for (const { name } of [...old.attributes]) {
        // What somebody has unfolded stays so.
        if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    after.forEach((node, at) => (at < before.length ? morph(before[at], node) : old.append(node)));
    before.slice(after.length).forEach((node) => node.remove());
}

function narrow() {
    const query = filter.value.trim() ? "?" + new URLSearchParams({ filter: filter.value.trim() }) : "";
    history.replaceState(null, "", location.pathname + query);
    open();
}

tellLocalTime(document);
// A hung connection brings no error.
setInterval(() => { if (events && new Date() - heardAt > SILENCE_LIMIT) silent(); }, 1_000);
// Nobody looks at a hidden tab, and a browser has only six connections to one portal.
document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    heardAt = new Date();
    open();
});
addEventListener("pagehide", close);
addEventListener("pageshow", ({ persisted }) => { if (persisted) open(); });
if (!document.hidden) open();

if (filter) {
    let typing = null;
    filter.addEventListener("input", () => {
        clearTimeout(typing);
        typing = setTimeout(narrow, 250);
    });
    document.getElementById("filter-form").addEventListener("submit", (event) => {
        event.preventDefault();
        clearTimeout(typing);
        narrow();
    });
}
