// The page of a conflict works without this. With it, the preview follows what is chosen, and a change on the other side
// is told at once. Nothing that was chosen or typed is ever replaced: new values are shown when the person asks for them.

const page = document.getElementById("resolver");
const form = document.getElementById("decision");
const PREVIEW_DELAY_MS = 300;
const RECONNECT_MS = [1000, 2000, 5000, 15000];
const STOP_CODES = [4401, 4403];

if (form) {
  followTheChoice();
}
listen(0, Number(page.dataset.seq));

function followTheChoice() {
  const merge = document.getElementById("merge");
  let waiting = 0;
  let asked = 0;

  function chosen(name) {
    return form.querySelector(`input[name="${CSS.escape(name)}"]:checked`);
  }

  function showMerge() {
    if (merge) {
      merge.hidden = chosen("resolution")?.value !== "merge";
    }
  }

  async function preview() {
    const mine = ++asked;
    const place = document.getElementById("preview");
    if (!chosen("resolution")) {
      return;
    }
    try {
      const answer = await fetch(page.dataset.preview, { method: "POST", body: new FormData(form) });
      if (answer.ok && mine === asked) {
        place.innerHTML = await answer.text();
      }
    } catch {
      // Offline: the Preview button says so when it is pressed.
    }
  }

  function previewSoon() {
    clearTimeout(waiting);
    waiting = setTimeout(preview, PREVIEW_DELAY_MS);
  }

  form.addEventListener("input", (event) => {
    const own = event.target.closest(".own");
    if (own) {
      document.getElementById(own.dataset.pick).checked = true;
    }
    showMerge();
    if (event.target.name !== "comment") {
      previewSoon();
    }
  });
  showMerge();
}

// `after`: the last event that is known here. What the page showed from the start counts as known.
function listen(failures, after) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const organization = encodeURIComponent(page.dataset.organization);
  const socket = new WebSocket(`${scheme}://${location.host}/api/ws/sync/${organization}`);
  let last = after;
  let tries = failures;

  socket.addEventListener("message", (message) => {
    for (const event of JSON.parse(message.data)) {
      if (event.type === "CONNECTED") {
        tries = 0;
        if (last !== null) {
          socket.send(JSON.stringify({ type: "RESUME", after: last }));
        }
      } else if (event.type === "RESET") {
        last = null;
        tell("Much has happened since: this conflict may have changed.");
      } else if (last === null || event.seq === last + 1) {
        last = event.seq;
        hear(event);
      }
    }
  });
  socket.addEventListener("close", (event) => {
    if (!STOP_CODES.includes(event.code)) {
      setTimeout(() => listen(tries + 1, last), RECONNECT_MS[Math.min(tries, RECONNECT_MS.length - 1)]);
    }
  });
}

function hear(event) {
  const aboutThis = event.details.conflictId === page.dataset.conflict;
  if (event.type === "CONFLICT_RESOLVED" && aboutThis) {
    tell("Somebody has just resolved this conflict.");
  } else if (event.type === "SYNC_CONFLICT" && event.pfaId === page.dataset.pfa) {
    tell("This conflict has just changed.");
  } else if (event.type === "RECORD_CHANGED" && event.pfaId === page.dataset.pfa) {
    tell("PEMS has just changed this record.");
  }
}

function tell(sentence) {
  const place = document.getElementById("live-notice");
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.append(`⟳ ${sentence} `, form ? lookAgain() : reload());
  place.replaceChildren(notice);
}

// Sends the form, so that the page comes back with the new values and with everything chosen and typed so far.
function lookAgain() {
  const button = document.createElement("button");
  Object.assign(button, { type: "submit", name: "act", value: "look", textContent: "Show how it stands, keep my choices" });
  button.setAttribute("form", form.id);
  return button;
}

function reload() {
  const link = document.createElement("a");
  link.href = location.href;
  link.textContent = "Load the page again";
  return link;
}
