// The payer's pages work without this script; it saves people mistakes and waiting. It keeps
// nothing, stores nothing, and sends nothing anywhere but the page's own form.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");

  // A page that comes back out of the browser's memory may be out of date, and its button still busy.
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });

  // plain turns foreign digits into ours and drops what cannot be seen, as the server does.
  const zeros = [0x660, 0x6f0, 0xff10];
  const plain = (text) => Array.from(text, (c) => {
    const code = c.codePointAt(0);
    for (const zero of zeros) if (code >= zero && code < zero + 10) return String(code - zero);
    if (/\s/.test(c)) return " ";
    if (/[\u2010-\u2015\u2212\uff0d]/.test(c)) return "-";
    if (c === "\uff0f") return "/";
    return /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/.test(c) ? "" : c;
  }).join("");
  // digits are the digits of a number typed with spaces and dashes; null if there is anything else.
  const digits = (text) => { const d = plain(text).replace(/[ -]/g, ""); return /^[0-9]*$/.test(d) ? d : null; };

  const luhn = (number) => {
    let sum = 0;
    for (let i = 0; i < number.length; i++) {
      let d = Number(number[number.length - 1 - i]);
      if (i % 2 === 1) { d *= 2; if (d > 9) d -= 9; }
      sum += d;
    }
    return sum % 10 === 0;
  };

  // say puts a message at a field, or takes it away.
  const say = (input, message) => {
    const p = byId(input.id + "-error");
    if (p.textContent !== message) p.textContent = message;
    if (message) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid");
  };

  // yymm reads an expiry date as the server does; "" if it is none.
  const yymm = (text) => {
    const parts = plain(text).split(/[/\-. ]+/).filter(Boolean);
    let month = parts[0] || "", year = parts[1] || "";
    if (parts.length === 1 && (month.length === 4 || month.length === 6)) { year = month.slice(2); month = month.slice(0, 2); }
    if (month.length === 1) month = "0" + month;
    if (year.length === 4 && year.startsWith("20")) year = year.slice(2);
    return parts.length < 3 && /^[0-9]{2}$/.test(year) && /^(0[1-9]|1[0-2])$/.test(month) ? year + month : "";
  };

  const cardForm = (form) => {
    const pan = form.elements.pan, exp = form.elements.exp, cvc = form.elements.cvc2, holder = form.elements.holder, email = form.elements.email;
    const ranges = JSON.parse(form.dataset.ranges), radios = Array.from(form.querySelectorAll("[type=radio]"));
    const allowed = radios.length ? radios.map((r) => r.value) : [form.elements.method ? form.elements.method.value : ""];
    // What the first four digits say, and no more: a range's method and scheme are empty where they do not tell.
    const rangeOf = (number) => number && ranges.find((r) => number.padEnd(4, "0").slice(0, 4) >= r.from && number.padEnd(4, "9").slice(0, 4) <= r.to);

    const brand = () => {
      const range = rangeOf(digits(pan.value) || "");
      const marks = pan.parentElement.querySelectorAll(".brand .mark");
      let name = "";
      for (const mark of marks) {
        const on = Boolean(range) && mark.dataset.scheme === range.scheme;
        mark.toggleAttribute("hidden", !on);
        if (on) name = mark.textContent;
      }
      const said = byId("pan-brand");
      if (said && said.textContent !== name) said.textContent = name;
      const radio = range && radios.find((r) => r.value === range.method);
      if (radio) radio.checked = true;
    };

    // atBank reports that the card needs what only bank cards have.
    const atBank = () => {
      const range = rangeOf(digits(pan.value) || "");
      return range && range.method ? range.method === "bank_card" : cvc.offsetParent !== null;
    };

    const checks = {
      pan: () => {
        const number = digits(pan.value), range = rangeOf(number || "");
        if (number === "") return pan.dataset.empty;
        if (number === null) return pan.dataset.digits;
        if (number.length < 12 || !(range && !range.luhn) && !luhn(number)) return pan.dataset.wrong;
        return range && range.method && allowed[0] && !allowed.includes(range.method) ? pan.dataset.method : "";
      },
      exp: () => {
        const date = yymm(exp.value);
        if (!date) return exp.dataset.wrong;
        return date < form.dataset.month ? exp.dataset.expired : "";
      },
      cvc2: () => atBank() && !/^[0-9]{3}$/.test(plain(cvc.value).trim()) ? cvc.dataset.wrong : "",
      holder: () => atBank() && !/^[A-Za-z .'\/-]*$/.test(plain(holder.value)) ? holder.dataset.wrong : "",
      email: () => /^.+@[^@\s]*[^@\s.]\.[^@\s.]/.test(plain(email.value).trim()) ? "" : email.dataset.wrong,
    };

    const group = () => {
      const number = digits(pan.value);
      if (number === null) return;
      const before = (digits(pan.value.slice(0, pan.selectionStart)) || "").length;
      const grouped = number.replace(/(.{4})(?=.)/g, "$1 ");
      if (grouped === pan.value) return;
      pan.value = grouped;
      const at = before + Math.floor(Math.max(before - 1, 0) / 4);
      pan.setSelectionRange(at, at);
    };
    const slash = (e) => {
      if (e.inputType && e.inputType.startsWith("delete")) return;
      const text = plain(exp.value).replace(/\/+/g, "/"); // the slash is typed by whoever does not wait for ours
      if (/^[2-9]$/.test(text)) exp.value = "0" + text + "/";
      else if (/^(0[1-9]|1[0-2])$/.test(text)) exp.value = text + "/";
      else if (/^(0[1-9]|1[0-2])[0-9]{1,2}$/.test(text)) exp.value = text.slice(0, 2) + "/" + text.slice(2);
      else if (/^(0?[1-9]|1[0-2])\/[0-9]*$/.test(text) && text !== exp.value) exp.value = text;
    };

    pan.addEventListener("input", () => { group(); brand(); });
    exp.addEventListener("input", slash);
    for (const radio of radios) radio.addEventListener("change", brand); // the number says which it is, whatever is pressed
    for (const name of Object.keys(checks)) {
      const input = form.elements[name];
      if (!input) continue;
      input.addEventListener("blur", () => { if (input.value) say(input, checks[name]()); });
      input.addEventListener("input", () => { if (input.hasAttribute("aria-invalid") && !checks[name]()) say(input, ""); });
    }
    brand(); // what the browser filled in before we came

    // check reports whether the form may be sent; else the first wrong field has the focus.
    return () => {
      let first = null;
      for (const name of Object.keys(checks)) {
        const input = form.elements[name];
        if (!input) continue;
        const message = checks[name]();
        say(input, message);
        if (message && !first) first = input;
      }
      if (first) first.focus();
      return !first;
    };
  };

  const smsForm = (form) => {
    const code = form.elements.code;
    return () => {
      const d = digits(code.value);
      const message = d && d.length >= 4 && d.length <= 8 ? "" : code.dataset.wrong;
      say(code, message);
      if (message) code.focus();
      return !message;
    };
  };

  // One press sends a form once. Whoever is still here after a time in which banks answer got nowhere (no network, the
  // browser's stop button) and can press again; the server takes two for one.
  for (const form of document.forms) {
    const check = form.elements.pan ? cardForm(form) : form.elements.code ? smsForm(form) : () => true;
    const button = form.querySelector("button"), words = button && button.textContent;
    let sent = false;
    const rest = () => { sent = false; button.removeAttribute("aria-disabled"); button.textContent = words; };
    form.addEventListener("submit", (e) => {
      if (!button) return;
      if (sent || !check()) { e.preventDefault(); return; }
      sent = true;
      button.setAttribute("aria-disabled", "true");
      button.textContent = form.dataset.busy;
      setTimeout(rest, 20000);
    });
  }

  // The code's time runs down; the clock of the payer's device does not matter.
  const left = document.querySelector("[data-seconds]");
  if (left) {
    const end = performance.now() + Number(left.dataset.seconds) * 1000, clock = left.querySelector("b");
    left.querySelector("span").hidden = true;
    const tick = () => {
      const s = Math.max(0, Math.ceil((end - performance.now()) / 1000));
      clock.textContent = Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");
      if (s > 0) return;
      clearInterval(timer);
      left.hidden = true;
      byId("over").textContent = left.dataset.over;
      const more = document.querySelector("details.more");
      if (more && !left.hasAttribute("data-last")) more.open = true;
    };
    const timer = setInterval(tick, 250);
  }

  // While the bank is asked, look now and then whether there is news, ever less often.
  const poll = document.querySelector("[data-poll]");
  if (poll) {
    let wait = 700;
    const look = async () => {
      try {
        const answer = await fetch(poll.dataset.poll, { headers: { "X-Seen": poll.dataset.seen }, cache: "no-store" });
        if (answer.status === 200) { location.reload(); return; }
      } catch (e) { /* no network just now: look again later */ }
      wait = Math.min(wait * 1.3, 5000);
      setTimeout(look, wait);
    };
    setTimeout(look, wait);
  }

  // Whoever comes back from his bank to this place in the browser's history finds a button and is not
  // thrown forward again.
  const bank = byId("bank"), look = byId("look");
  const leave = () => {
    const here = new URL(location.href);
    here.searchParams.set("again", "1");
    history.replaceState(null, "", here);
  };
  if (bank && bank.hasAttribute("data-auto")) {
    leave();
    bank.requestSubmit();
  }

  // The bank looks at the browser in a hidden frame, for ten seconds at most; then it goes on.
  if (look) {
    const frame = document.querySelector("iframe");
    let on = false;
    const proceed = () => { if (!on) { on = true; byId("proceed").requestSubmit(); } };
    frame.addEventListener("load", () => {
      try { if (frame.contentDocument.title === "done") proceed(); } catch (e) { /* still the bank's page */ }
    });
    setTimeout(proceed, 10000);
    leave();
    look.submit();
  }

  // Back to the shop by itself, unless the payer wants to stay or has been there and come back.
  const soon = byId("soon");
  if (soon && !(history.state && history.state.gone)) {
    const words = soon.dataset.words.split("|"), stay = byId("stay");
    let n = words.length;
    const tick = () => {
      if (n === 0) {
        clearInterval(timer);
        history.replaceState({ gone: true }, "");
        location.assign(byId("return").href);
        return;
      }
      soon.textContent = words[--n];
    };
    const timer = setInterval(tick, 1000);
    tick();
    soon.hidden = stay.hidden = false;
    stay.addEventListener("click", () => {
      clearInterval(timer);
      soon.hidden = stay.hidden = true;
      byId("return").focus();
    });
  }
})();
