"use strict";

// The operator's answer to an update: asks for the PIN, and sends it with the hash of the package that was shown.
{
    const dialog = document.getElementById("pin-dialog");
    const pin = document.getElementById("pin");
    const problem = document.getElementById("pin-problem");
    const notice = document.getElementById("notice");
    const submit = dialog.querySelector("[type=submit]");
    let asked = null;

    // The pad is there already; a screen keyboard would cover it.
    if (matchMedia("(pointer: coarse)").matches) pin.inputMode = "none";
    if (!CSS.supports("-webkit-text-security", "disc")) pin.type = "password";

    function ask(button) {
        const { ask: address, manifest, title } = button.dataset;
        asked = { address, manifest };
        document.getElementById("pin-title").textContent = title;
        pin.value = problem.textContent = "";
        notice.hidden = true;
        dialog.showModal();
        pin.focus();
    }

    async function send() {
        const { address, manifest } = asked;
        const headers = { "Content-Type": "application/json", "X-Config-Pin": pin.value };
        const body = JSON.stringify({ manifest_sha256: manifest });
        submit.disabled = true;
        const answer = await fetch(address, { method: "POST", headers, body }).catch(() => null);
        const said = await answer?.json().catch(() => null);
        submit.disabled = false;
        pin.value = "";
        if (answer?.ok) return dialog.close();
        if (answer?.status === 409 && said) return refuse(said);
        problem.textContent = said?.message ?? dialog.dataset.unreachable;
        pin.focus();
    }

    // Told on the page itself, above what waits now.
    function refuse({ message, detail }) {
        dialog.close();
        document.getElementById("message").textContent = message;
        document.getElementById("detail").textContent = detail ?? "";
        notice.hidden = false;
        notice.focus();
        // What waits now is on the page before anybody presses again.
        open();
    }

    document.getElementById("live").addEventListener("click", ({ target }) => {
        const button = target.closest("button[data-ask]");
        if (button) ask(button);
    });
    dialog.addEventListener("click", ({ target, detail }) => {
        const button = target.closest("button");
        const key = button?.dataset.key;
        if (button?.hasAttribute("data-cancel")) return dialog.close();
        if (!key) return;
        pin.value = key === "erase" ? pin.value.slice(0, -1) : (pin.value + key).slice(0, pin.maxLength);
        problem.textContent = "";
        // After a tap, the keyboard goes on where the pad left off.
        if (detail) pin.focus();
    });
    dialog.addEventListener("close", () => { pin.value = ""; });
    dialog.querySelector("form").addEventListener("submit", (event) => {
        event.preventDefault();
        if (pin.value && !submit.disabled) send();
    });
    pin.addEventListener("input", () => {
        pin.value = pin.value.replace(/\D/g, "");
        problem.textContent = "";
    });
}
