// The pages' own script: small comforts over server-rendered HTML. Everything but the live page
// works without it. No build step, no inline handlers; figures and words come from the server.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = $("#words")?.dataset ?? {};
  const THIN = "\u202f";

  // The browser's time zone, for people who have not chosen one.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.includes(`tz=${zone}`)) {
    document.cookie = `tz=${zone}; path=/dashboard/; max-age=31536000; samesite=lax`;
  }

  // Toasts and copying.
  function toast(text) {
    const box = document.createElement("p");
    box.className = "toast";
    box.textContent = text;
    $("#toasts")?.append(box);
    setTimeout(() => box.remove(), 3000);
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const text = source.textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Plain http has no clipboard: select the text and say which keys to press.
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      toast(words.manual);
      return;
    }
    const secret = $("#secret")?.textContent.trim();
    if (secret && text.includes(secret)) leaving = false;
    const label = $("span", button) ?? button;
    label.dataset.word ??= label.textContent;
    label.textContent = words.copied;
    toast(words.copied);
    setTimeout(() => (label.textContent = label.dataset.word), 2000);
  }

  let leaving = Boolean($("[data-ask-before-leaving]"));
  addEventListener("beforeunload", (event) => {
    if (leaving) event.preventDefault();
  });

  // Ages and countdowns.
  function span(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    const d = Math.floor(s / 86400), h = Math.floor((s % 86400) / 3600), m = Math.floor((s % 3600) / 60);
    if (d) return h ? `${d}${THIN}d ${h}${THIN}h` : `${d}${THIN}d`;
    if (h) return `${h}${THIN}h ${m}${THIN}min`;
    if (m) return `${m}${THIN}min`;
    return `${s}${THIN}s`;
  }
  function countdown(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    return s < 3600 ? `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}` : span(s);
  }
  function tick() {
    const at = Date.now();
    for (const time of $$("time[data-ago]")) {
      const age = (at - Date.parse(time.dateTime)) / 1000;
      if (age >= 0) time.textContent = age < 5 ? words.now : words.ago.replace("{span}", span(age));
    }
    for (const time of $$("time[data-until]")) {
      const left = (Date.parse(time.dateTime) - at) / 1000;
      time.textContent = left > 0 ? countdown(left) : words.over;
    }
    for (const row of $$("tr[data-began]")) {
      const cell = $("[data-elapsed]", row);
      if (cell) cell.textContent = ms(at - Date.parse(row.dataset.began));
    }
  }
  setInterval(tick, 1000);

  // The theme changes at once; the server remembers it.
  $("[data-theme-form]")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const button = $("button", form);
    const chosen = button.value;
    document.documentElement.dataset.theme = chosen;
    const data = new FormData(form);
    data.set("theme", chosen);
    button.value = { light: "dark", dark: "system", system: "light" }[chosen];
    fetch(form.action, { method: "POST", body: data, headers: { "X-Requested-With": "fetch" } });
  });

  // Filters go with the first change; the button is for browsers without script.
  for (const form of $$("form[data-autosubmit]")) {
    $$("[data-without-script]", form).forEach((button) => (button.hidden = true));
    form.addEventListener("change", (event) => event.target.name && form.requestSubmit());
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
      // Back in the history brings the page back as it was left: fields must be alive again.
      setTimeout(() => [...form.elements].forEach((field) => (field.disabled = false)));
    });
  }

  // Snippets follow the chosen model.
  for (const select of $$("[data-pick]")) {
    select.addEventListener("change", () => {
      for (const slot of $$(`[data-slot="${select.dataset.pick}"]`)) {
        slot.dataset.suggested ??= slot.textContent;
        slot.textContent = select.value || slot.dataset.suggested;
      }
    });
  }

  // The row panel.
  const panel = $("#panel");
  let selected = null;
  const rows = () => $$("tr[data-href]");
  function select(row) {
    selected?.removeAttribute("aria-selected");
    selected = row;
    row?.setAttribute("aria-selected", "true");
    row?.scrollIntoView({ block: "nearest" });
  }
  async function open(row) {
    select(row);
    if (!panel) {
      location.href = row.dataset.href;
      return;
    }
    const answer = await fetch(row.dataset.href, { headers: { "HX-Request": "true" } });
    if (!answer.ok) {
      location.href = row.dataset.href;
      return;
    }
    const html = await answer.text();
    if (selected !== row) return;
    panel.innerHTML = html;
    panel.hidden = false;
    document.body.classList.add("has-panel");
    panel.focus({ preventScroll: true });
  }
  function close() {
    if (!panel || panel.hidden) return false;
    panel.hidden = true;
    document.body.classList.remove("has-panel");
    $("a", selected ?? document)?.focus({ preventScroll: true });
    return true;
  }
  function step(by) {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(selected);
    const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
    if (panel && !panel.hidden) open(next);
    else select(next);
  }

  document.addEventListener("click", (event) => {
    const target = event.target;
    const button = target.closest("button");
    if (button?.dataset.copy) return void copy(button);
    if (button?.dataset.open) return void document.getElementById(button.dataset.open)?.showModal();
    if (button && "closePanel" in button.dataset) return void close();
    if (button?.dataset.step) return void step(Number(button.dataset.step));
    const row = target.closest("tr[data-href]");
    if (!row || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    const link = target.closest("a, button, input, select");
    if (link && !link.classList.contains("row-link")) return;
    if (!String(getSelection()).trim()) {
      event.preventDefault();
      open(row);
    }
  });

  // Keyboard.
  const SHORT = "gateway-keys";
  const help = $("#keys-help");
  const keysAreOn = () => localStorage.getItem(SHORT) !== "off";
  const keySwitch = $("[data-keys-switch]");
  if (keySwitch) {
    keySwitch.checked = keysAreOn();
    keySwitch.addEventListener("change", () => localStorage.setItem(SHORT, keySwitch.checked ? "on" : "off"));
  }
  const PAGES = { o: "", r: "requests/", l: "live/", a: "approvals/", c: "accounts/", k: "keys/" };
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && close()) return;
    if (!keysAreOn() || event.target.closest("input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable], dialog")) return;
    const key = event.key;
    if (Date.now() - went < 1200 && key in PAGES) {
      went = 0;
      event.preventDefault();
      location.href = `/dashboard/${PAGES[key]}`;
      return;
    }
    went = 0;
    if (key === "g") went = Date.now();
    else if (key === "/") $$("input[type=search]").find((i) => i.checkVisibility?.() ?? true)?.focus();
    else if (key === "f") $("[data-filter]")?.focus();
    else if (key === "?") help?.showModal();
    else if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "Enter" && selected && !event.target.closest("a, button, summary")) open(selected);
    else if (key === "p") $("[data-pause]")?.click();
    else return;
    event.preventDefault();
  });

  // Charts: the column under the pointer says its figures.
  document.addEventListener("pointerover", (event) => {
    const bucket = event.target.closest?.("g.bucket");
    const plot = bucket?.closest("[data-chart]");
    for (const tip of $$(".tip")) if (tip.parentElement !== plot) tip.remove();
    if (!plot) return;
    let tip = $(".tip", plot);
    if (!tip) {
      tip = document.createElement("div");
      tip.className = "tip";
      plot.append(tip);
    }
    const lines = Object.entries(bucket.dataset).filter(([name]) => /^v\d/.test(name)).map(([, v]) => v);
    tip.textContent = [bucket.dataset.label, ...lines].join("\n");
    const box = plot.getBoundingClientRect(), at = bucket.getBoundingClientRect();
    const middle = at.left + at.width / 2 - box.left;
    const left = middle > box.width / 2 ? middle - tip.offsetWidth - 12 : middle + 12;
    tip.style.left = `${Math.max(0, left)}px`;
  });

  // The tab's title counts what waits for approval.
  const title = document.title;
  function countWaiting() {
    const waiting = $("[data-waiting]")?.dataset.waiting;
    if (waiting !== undefined) document.title = Number(waiting) ? `(${waiting}) ${title}` : title;
  }
  countWaiting();
  document.addEventListener("htmx:afterSwap", () => {
    countWaiting();
    tick();
  });
  // What is being chosen or typed must not be swapped away under one's hands.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const busy = document.activeElement?.closest("select, input");
    if (busy && event.detail.target.contains(busy) && event.detail.requestConfig?.verb === "get") {
      event.detail.shouldSwap = false;
    }
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
  });
  // A session that has ended answers with the sign-in page: go there instead of showing it inside.
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const url = event.detail.xhr.responseURL;
    if (url && new URL(url).pathname === "/dashboard/sign-in/") {
      event.preventDefault();
      location.reload();
    }
  });

  // Figures as the server writes them.
  function ms(value) {
    if (value === null || value === undefined) return "–";
    if (value < 999.5) return `${Math.round(value)}${THIN}ms`;
    const s = value / 1000;
    if (s < 59.95) return `${s.toFixed(1)}${THIN}s`;
    const whole = Math.round(s);
    return whole < 3600 ? `${Math.floor(whole / 60)}${THIN}min ${whole % 60}${THIN}s` : span(whole);
  }
  function tokens(n) {
    if (n < 1000) return String(n);
    for (const [step, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (n >= step * 0.9995) {
        const v = n / step;
        return `${v >= 99.95 ? v.toFixed(0) : v.toFixed(1).replace(/\.0$/, "")}${THIN}${unit}`;
      }
    }
    return String(n);
  }
  function credits(nano) {
    const c = nano / 1e9;
    return c === 0 ? "0" : c < 0.01 ? "< 0.01" : c < 9.995 ? c.toFixed(2) : c.toFixed(1);
  }

  live();

  // The live page: in flight and the last five hundred, by socket, else by asking every five seconds.
  function live() {
    const root = $("#live");
    if (!root) return;
    const pill = $("[data-pill]"), pause = $("[data-pause]"), said = $("#live-words").dataset;
    const held = new Map(), open = new Map();
    const sprite = $("svg use", pill).getAttribute("href").split("#")[0];
    let socket = null, failures = 0, isPaused = false, byScroll = false, poll = 0, frame = 0, finished = 0;

    function tell(state) {
      pill.dataset.state = state;
      $("span", pill).textContent = pill.dataset[state];
      const icon = { live: "dot", connecting: "in-flight", polled: "ring", paused: "pause" }[state];
      $("use", pill).setAttribute("href", `${sprite}#${icon}`);
      pill.className = `pill live-pill ${state === "live" ? "ok" : state === "connecting" ? "warn" : ""}`;
    }
    const icons = {
      in_flight: ["in-flight", "info", said.inFlight], completed: ["ok", "ok", said.completed],
      retried: ["retried", "warn", said.retried], cancelled: ["gone", "", said.cancelled],
      refused: ["refused", "warn", said.refused], timeout: ["clock", "bad", said.timeout],
      interrupted: ["failed", "bad", said.interrupted], upstream_error: ["failed", "bad", said.upstreamError],
    };
    function outcome(event) {
      const kind = event.outcome === "completed" && event.attempts > 1 ? "retried" : event.outcome;
      const [icon, tone, word] = icons[kind] ?? icons.upstream_error;
      const box = document.createElement("span");
      box.className = `pill ${tone}`;
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("class", kind === "in_flight" ? "icon pulse" : "icon");
      svg.setAttribute("aria-hidden", "true");
      const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      use.setAttribute("href", `${sprite}#${icon}`);
      svg.append(use);
      const status = kind === "upstream_error" && event.status ? ` ${event.status}` : "";
      box.append(svg, `${word}${status}`);
      return box;
    }
    const table = () => $("[data-live-table]", root);
    function cell(row, name, content) {
      const td = document.createElement("td");
      td.className = name;
      if (content instanceof Node) td.append(content);
      else {
        const bdi = document.createElement("bdi");
        bdi.textContent = content;
        td.append(bdi);
      }
      row.append(td);
      return td;
    }
    function draw(event) {
      const body = $("tbody", table());
      const old = $(`tr[data-exchange="${CSS.escape(event.exchange)}"]`, body);
      const row = document.createElement("tr");
      row.dataset.exchange = event.exchange;
      const showsMember = table().dataset.showsMember === "1";
      const isOpen = event.outcome === "in_flight";
      const time = document.createElement("time");
      time.dateTime = event.started_at;
      time.textContent = new Date(event.started_at).toLocaleTimeString("en-GB");
      cell(row, "p4 fit", time);
      cell(row, "p1 fit", outcome(event));
      if (showsMember) cell(row, "p5", event.member);
      cell(row, "p2", event.model_used || event.model_asked);
      const path = document.createElement("span");
      path.className = "beneath";
      path.textContent = event.path;
      cell(row, showsMember ? "" : "p5", event.client).append(path);
      cell(row, "n", `${tokens(event.input_tokens)} → ${tokens(event.output_tokens)}`);
      const price = event.cost_source === "none" ? "–" : credits(event.nano_aiu);
      cell(row, "n p3", event.cost_source === "estimated" ? `≈ ${price}` : price);
      const first = event.first_token_ms === null ? "" : `${ms(event.first_token_ms)} / `;
      const last = cell(row, "n p6", isOpen ? ms(Date.now() - Date.parse(event.started_at)) : `${first}${ms(event.total_ms)}`);
      cell(row, "", event.account);
      if (isOpen) {
        row.dataset.began = event.started_at;
        last.dataset.elapsed = "";
        open.set(event.exchange, true);
      } else {
        row.className = "clickable";
        row.dataset.href = `${root.dataset.exchangeUrl}${encodeURIComponent(event.exchange)}/`;
        open.delete(event.exchange);
        finished += 1;
      }
      if (old) old.replaceWith(row);
      else body.prepend(row);
      while (body.rows.length > 500) body.lastElementChild.remove();
      $("[data-live-empty]", root)?.remove();
    }
    function flush() {
      frame = 0;
      if (isPaused) {
        $("[data-live-new]", root).textContent = held.size ? said.new.replace("{n}", held.size) : "";
        return;
      }
      for (const event of held.values()) draw(event);
      held.clear();
      $("[data-live-new]", root).textContent = "";
      $("[data-in-flight-count]", root).textContent = open.size;
    }
    function take(event) {
      if (event.t === "hello") {
        open.clear();
        const known = new Set(event.in_flight.map((one) => one.exchange));
        $$("tr[data-began]", root).forEach((row) => known.has(row.dataset.exchange) || row.remove());
        for (const one of [...event.last].reverse()) hold(one);
        for (const one of [...event.in_flight].reverse()) hold({ ...one, outcome: "in_flight" });
        finished = 0;
      } else if (event.t === "exchange.finished") hold(event);
      else if (event.t?.startsWith("exchange.")) hold({ ...event, outcome: "in_flight" });
    }
    function hold(event) {
      held.delete(event.exchange);
      held.set(event.exchange, event);
      frame ||= requestAnimationFrame(flush);
    }
    function setPaused(on, scrolled = false) {
      isPaused = on;
      byScroll = on && scrolled;
      pause.setAttribute("aria-pressed", String(on));
      const label = $("span", pause);
      label.dataset.word ??= label.textContent;
      label.textContent = on ? pause.dataset.pausedText : label.dataset.word;
      tell(on ? "paused" : socket?.readyState === 1 ? "live" : poll ? "polled" : "connecting");
      if (!on) flush();
    }
    pause.addEventListener("click", () => setPaused(!isPaused));
    addEventListener("scroll", () => {
      if (scrollY > 240 && !isPaused) setPaused(true, true);
      else if (scrollY < 80 && byScroll) setPaused(false);
    }, { passive: true });

    async function ask() {
      if (isPaused || document.hidden) return;
      try {
        const answer = await fetch(location.href, { headers: { "HX-Request": "true" } });
        if (answer.ok && !answer.redirected) root.innerHTML = await answer.text();
      } catch { /* The next turn asks again. */ }
    }
    function connect() {
      if (socket && socket.readyState < 2) return;
      const url = new URL(root.dataset.liveUrl, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      socket = new WebSocket(url);
      socket.onopen = () => {
        failures = 0;
        clearInterval(poll);
        poll = 0;
        if (!isPaused) tell("live");
      };
      socket.onmessage = (message) => take(JSON.parse(message.data));
      socket.onclose = (event) => {
        if (event.code === 4401) return void location.reload();
        if (document.hidden && event.wasClean) return;
        failures += 1;
        if (failures >= 3 && !poll) poll = setInterval(ask, 5000);
        if (!isPaused) tell(poll ? "polled" : "connecting");
        const wait = Math.min(30, 2 ** Math.min(failures, 5)) * (0.5 + Math.random()) * 500;
        setTimeout(connect, wait);
      };
    }
    let away = 0;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(away);
      if (document.hidden) away = setTimeout(() => socket?.close(1000), 300000);
      else connect();
    });
    setInterval(() => {
      $("[data-live-summary]").textContent = said.summary.replace("{n}", open.size).replace("{f}", finished);
      finished = 0;
    }, 10000);
    connect();
  }
})();
