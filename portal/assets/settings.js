"use strict";

// Changes the PIN. What is typed leaves this page for the portal alone, and is forgotten at once.
const form = document.getElementById("pin-form");
const said = document.getElementById("pin-said");
const fields = ["pin-now", "pin-new", "pin-again"].map((id) => document.getElementById(id));

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [now, fresh, again] = fields.map((field) => field.value);
    if (fresh !== again) return tell(form.dataset.differ);
    const submit = form.querySelector("[type=submit]");
    submit.disabled = true;
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ pin: now, new_pin: fresh });
    const answer = await fetch("/api/pin", { method: "POST", headers, body }).catch(() => null);
    const answered = answer?.status === 204 ? null : await answer?.json().catch(() => null);
    submit.disabled = false;
    if (answer?.ok) {
        fields.forEach((field) => { field.value = ""; });
        return tell(form.dataset.done);
    }
    tell(answered?.message ?? form.dataset.unreachable);
});

for (const field of fields) {
    field.addEventListener("input", () => {
        field.value = field.value.replace(/\D/g, "");
        said.textContent = "";
    });
}

function tell(text) {
    said.textContent = text;
}
