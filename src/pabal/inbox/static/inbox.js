// Keeps the list current while the page is open and visible, and times in the reader's own zone.
"use strict";

const base = document.body.dataset.base;
const list = document.getElementById("entries");
const PERIOD_MS = 1000;

function localTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const clock = at.toLocaleTimeString([], { hour12: false });
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today && !("long" in time.dataset) ? clock : `${at.toLocaleDateString()} ${clock}`;
    time.title = time.dateTime;
  }
}

function copyButtons(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
}

function dress(root) {
  localTimes(root);
  copyButtons(root);
}

if (list) {
  const state = document.getElementById("state");
  const deleteAll = document.getElementById("delete-all");
  let revision = `"${list.dataset.revision}"`;
  let timer;

  const showCount = () => {
    const total = Number(list.querySelector(".entries")?.dataset.total ?? 0);
    document.title = total ? `(${total}) Pabal inbox` : "Pabal inbox";
    deleteAll.hidden = total === 0;
  };

  const showState = (text) => {
    state.textContent = text;
    state.hidden = !text;
  };

  const show = (html) => {
    const known = new Set([...list.querySelectorAll(".entry")].map((entry) => entry.dataset.id));
    const focused = document.activeElement?.dataset?.id;
    list.innerHTML = html; // rendered by the server, which escapes every text of a message
    for (const entry of list.querySelectorAll(".entry")) {
      entry.classList.toggle("new", !known.has(entry.dataset.id));
      if (entry.dataset.id === focused) entry.focus({ preventScroll: true });
    }
    dress(list);
    showCount();
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      const answer = await fetch(`${base}/entries`, { headers: { "If-None-Match": revision }, cache: "no-store" });
      if (answer.status === 200) {
        revision = answer.headers.get("ETag");
        show(await answer.text());
      }
      showState("");
    } catch {
      showState("Pabal does not answer; trying again …");
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, PERIOD_MS);
  };

  deleteAll.addEventListener("click", async () => {
    await fetch(`${base}/messages`, { method: "DELETE" });
    await refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  showCount();
  refresh();
}

dress(document);
