// Keeps the live parts of a page fresh, and remembers the theme. Without it every page still works.
"use strict";
document.documentElement.classList.add("script");
(() => {
  const REFRESH_S = 20;
  const STALE_S = 90;
  const status = document.getElementById("live-status");
  const parts = () => document.querySelectorAll("[data-live]");
  let timer = null;
  let last = Date.now();

  const say = (text, isStale) => {
    if (!status) return;
    status.textContent = text;
    document.documentElement.toggleAttribute("data-stale", isStale);
  };

  const replace = (fresh) => {
    for (const part of parts()) {
      const next = fresh.getElementById(part.id);
      if (!next || next.innerHTML === part.innerHTML || part.contains(document.activeElement) || part.querySelector("figure[data-plot]:hover")) continue;
      const open = new Set([...part.querySelectorAll("details[open]")].map((d) => d.id));
      part.innerHTML = next.innerHTML;
      for (const details of part.querySelectorAll("details")) details.open ||= open.has(details.id);
    }
  };

  const refresh = async () => {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      last = Date.now();
      schedule();
      say(status.dataset.fresh.replace("{time}", new Date().toLocaleTimeString(document.documentElement.lang, { hourCycle: "h23" })), false);
    } catch {
      const ago = Math.round((Date.now() - last) / 1000);
      say(status.dataset.lost.replace("{n}", ago), ago > STALE_S || !navigator.onLine);
    }
  };

  const schedule = () => {
    clearInterval(timer);
    const hasty = document.querySelector("[data-live] [data-every]");
    const every = hasty ? Number(hasty.dataset.every) : REFRESH_S;
    timer = document.hidden || !parts().length ? null : setInterval(refresh, every * 1000);
  };

  const loadLate = async (part) => {
    try {
      const answer = await fetch(part.dataset.src, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      part.replaceChildren(...page.getElementById(part.dataset.take).childNodes);
    } catch {
      part.classList.add("failed");
    }
    part.removeAttribute("aria-busy");
  };

  const theme = document.getElementById("theme");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
      const next = now === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      document.cookie = `wattline_theme=${next}; path=/; max-age=31536000; samesite=lax`;
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      button.textContent = button.dataset.done;
    });
  }

  // A choice by the pointer is sent at once; by keys it is sent with Enter or the button, which then appears.
  for (const field of document.querySelectorAll("select[data-submit]")) {
    let byKeys = false;
    field.addEventListener("pointerdown", () => { byKeys = false; });
    field.addEventListener("keydown", (event) => {
      byKeys = true;
      const button = field.form.querySelector(".script-hidden");
      if (button) button.classList.remove("script-hidden");
      if (event.key === "Enter") { event.preventDefault(); field.form.requestSubmit(); }
    });
    field.addEventListener("change", () => { if (!byKeys && field.value !== field.dataset.not) field.form.requestSubmit(); });
  }
  for (const form of document.querySelectorAll("form[data-busy]")) {
    form.addEventListener("submit", () => {
      const button = form.querySelector("button[type=submit]:focus") || form.querySelector("button[type=submit]");
      form.setAttribute("aria-busy", "true");
      if (button) button.classList.add("busy");
    });
  }

  // A picture of a drawing, made here from the SVG of the same address: exactly what is seen.
  for (const link of document.querySelectorAll("a[data-png]")) {
    link.hidden = false;
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      const text = await (await fetch(link.href, { credentials: "same-origin" })).text();
      const bytes = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
      const image = new Image();
      image.src = `data:image/svg+xml;base64,${btoa(bytes)}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = 2 * image.width;
      canvas.height = 2 * image.height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      const saved = document.createElement("a");
      saved.href = canvas.toDataURL("image/png");
      saved.download = link.dataset.png;
      saved.click();
    });
  }

  // The editor of the site file: to the line of a problem, and help about the key under the caret.
  const text = document.getElementById("site-text");
  if (text) {
    for (const link of document.querySelectorAll("a[data-line]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const lines = text.value.split("\n"), at = Number(link.dataset.line) - 1;
        const start = lines.slice(0, at).join("\n").length + (at ? 1 : 0);
        text.focus();
        text.setSelectionRange(start, start + (lines[at] || "").length);
        text.scrollTop = (text.scrollHeight / lines.length) * Math.max(at - 4, 0);
      });
    }
    let shown = "", waiting = 0;
    const help = async () => {
      const before = text.value.slice(0, text.selectionStart);
      const line = before.slice(before.lastIndexOf("\n") + 1) + text.value.slice(text.selectionStart).split("\n")[0];
      const keys = [...line.matchAll(/([a-z_0-9]+):(?=\s|$)/g)];
      const column = before.length - before.lastIndexOf("\n") - 1;
      const key = (keys.filter((one) => one.index <= column).pop() || keys[0] || [])[1];
      if (!key || key === shown) return;
      shown = key;
      const address = new URL(text.dataset.help, location.href);
      address.searchParams.set("q", key);
      const answer = await fetch(address, { credentials: "same-origin" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("keys");
      if (found && shown === key) document.getElementById("key-help").replaceChildren(found);
    };
    for (const name of ["keyup", "click", "focus"]) {
      text.addEventListener(name, () => { clearTimeout(waiting); waiting = setTimeout(help, 250); });
    }
  }

  // A display opens /wall#wl_... : the key behind the number sign stays in the browser and signs it in.
  const keyed = document.querySelector("form[data-key-from-address]");
  if (keyed && /^#wl_[\w-]+$/.test(location.hash)) {
    keyed.querySelector("[name=secret]").value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname + location.search);
    keyed.requestSubmit();
  }

  document.querySelectorAll("[data-src]").forEach(loadLate);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && parts().length) refresh();
    schedule();
  });
  schedule();
})();
