// The approvals page: hears by socket what opens and closes, else the page asks every five seconds;
// counts in the tab's title, `a` and `r`, notifications for those who asked for them.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = $("#approvals");
  if (!root) return;
  const pill = $("[data-pill]"), said = $("#approval-words").dataset, status = $("[data-approvals-said]");
  const sprite = $("svg use", pill).getAttribute("href").split("#")[0];
  const title = document.title.replace(/^\(\d+\) /, "");
  const mayDecide = root.dataset.mayDecide === "1";
  let socket = null, failures = 0, chosen = null, changedAt = 0, stale = false;

  function tell(state) {
    pill.dataset.state = state;
    $("span", pill).textContent = pill.dataset[state];
    const icon = { live: "dot", connecting: "in-flight", polled: "ring" }[state];
    $("use", pill).setAttribute("href", `${sprite}#${icon}`);
    pill.className = `pill live-pill phone-off ${state === "live" ? "ok" : state === "connecting" ? "warn" : ""}`;
  }

  // The list comes from the server each time, with its forms; a hidden page waits until it is seen.
  function refresh() {
    if (document.hidden) stale = true;
    else {
      stale = false;
      htmx.trigger(root, "approvals-changed");
    }
  }
  function count(n) {
    document.title = n ? `(${n}) ${title}` : title;
    for (const badge of $$(".nav a[href$='/approvals/'] .count, .bottom a[href$='/approvals/'] .count")) {
      badge.textContent = n;
      badge.hidden = !n;
    }
  }
  document.addEventListener("htmx:beforeRequest", (event) => {
    const asked = event.detail.requestConfig;
    // While the socket tells us, nobody needs to ask every five seconds.
    if (event.detail.elt === root && asked.verb === "get" && !asked.triggeringEvent && socket?.readyState === 1) {
      event.preventDefault();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && stale) refresh();
  });

  // Which card the keys act on. It stays the same card when others come and go; when it has gone, the
  // keys rest for a moment, so that nobody approves what has just slid under the finger.
  function cards() {
    return $$("[data-approval]", root);
  }
  function choose(card) {
    for (const one of cards()) one.removeAttribute("aria-current");
    chosen = card?.dataset.approval ?? null;
    card?.setAttribute("aria-current", "true");
  }
  function settle() {
    const all = cards();
    const same = all.find((card) => card.dataset.approval === chosen);
    if (!same && chosen !== null) changedAt = Date.now();
    choose(same ?? all[0]);
    count(all.length);
  }
  settle();
  document.addEventListener("htmx:afterSwap", settle);
  root.addEventListener("focusin", (event) => {
    const card = event.target.closest("[data-approval]");
    if (card) choose(card);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (localStorage.getItem("gateway-keys") === "off") return;
    if (event.target.closest("input, select, textarea, [contenteditable], dialog")) return;
    const all = cards();
    const at = all.findIndex((card) => card.dataset.approval === chosen);
    if (event.key === "j" || event.key === "k") {
      const next = all[Math.min(all.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))];
      choose(next);
      next?.scrollIntoView({ block: "nearest" });
    } else if (mayDecide && at >= 0 && (event.key === "a" || event.key === "r")) {
      // `g` then `a` opens this page: the main script has used up that key already.
      if (event.defaultPrevented || Date.now() - changedAt < 800) return;
      $(event.key === "a" ? "button[value=approve]" : "button[value=refuse]", all[at])?.click();
    }
  });

  // Notifications, only for those who ask, only while the page is open.
  const bell = $("[data-notify-me]");
  const WISH = "gateway-approvals-notify";
  const mayNotify = () => "Notification" in window && Notification.permission === "granted" && localStorage.getItem(WISH) === "on";
  function ring() {
    if (!bell || !("Notification" in window) || !window.isSecureContext) return;
    bell.hidden = false;
    const label = $("span", bell);
    label.dataset.word ??= label.textContent;
    const on = mayNotify();
    bell.setAttribute("aria-pressed", String(on));
    label.textContent = on ? bell.dataset.on : Notification.permission === "denied" ? bell.dataset.denied : label.dataset.word;
    bell.disabled = Notification.permission === "denied";
  }
  bell?.addEventListener("click", async () => {
    const on = mayNotify();
    localStorage.setItem(WISH, on ? "off" : "on");
    if (!on && Notification.permission === "default") await Notification.requestPermission();
    ring();
  });
  ring();

  function take(event) {
    if (event.t === "hello") {
      count(event.waiting.length);
      refresh();
    } else if (event.t === "approval.opened") {
      count(event.waiting);
      status.textContent = said.opened;
      if (mayNotify() && document.hidden) {
        const what = [event.member, event.model, event.rule].filter(Boolean).join(" · ");
        new Notification(said.opened, { body: what, tag: event.approval }).onclick = () => window.focus();
      }
      refresh();
    } else if (event.t === "approval.closed") {
      count(event.waiting);
      status.textContent = said.closed.replace("{model}", event.model).replace("{member}", event.member).replace("{by}", event.decided_by);
      refresh();
    }
  }
  function connect() {
    if (socket && socket.readyState < 2) return;
    const url = new URL(root.dataset.approvalsUrl, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url);
    socket.onopen = () => {
      failures = 0;
      tell("live");
    };
    socket.onmessage = (message) => take(JSON.parse(message.data));
    socket.onclose = (event) => {
      if (event.code === 4401) return void location.reload();
      if (event.code === 4403) return void tell("polled");
      failures += 1;
      tell(failures >= 3 ? "polled" : "connecting");
      setTimeout(connect, Math.min(30, 2 ** Math.min(failures, 5)) * (0.5 + Math.random()) * 500);
    };
  }
  connect();
})();
