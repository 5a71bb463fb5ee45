// The page: which part is shown, the server's models and its key.

import { ServerError, askAgain, askForKeyWith, getJSON } from "./api.js";
import { chooseLadder, setModels, startChat } from "./chat.js";
import { $, set, write } from "./dom.js";
import { showRuns, startRuns } from "./runs.js";
import { hideDetails } from "./tokens.js";

let canChat = null; // not known yet

function showPage() {
  const [page, ...rest] = location.hash.slice(1).split("/");
  const isChat = canChat && page !== "runs";
  if (canChat === null) return;
  hideDetails();
  $("#chat").hidden = !isChat;
  $("#runs").hidden = isChat;
  for (const [link, is] of [[$("#to-chat"), isChat], [$("#to-runs"), !isChat]]) {
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showRuns(isChat ? null : rest);
  if (!isChat) return;
  document.title = "Chat – Ladder";
  if (page === "chat" && rest[0]) chooseLadder(decodeURIComponent(rest[0]));
}

// A key of the server's, or null.
function questionForKey(wrong) {
  const dialog = $("#key");
  const field = $("input", dialog);
  field.value = "";
  dialog.returnValue = "";
  $("#key-wrong").hidden = !wrong;
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "use" ? field.value.trim() : null);
    }, { once: true });
  });
}

// What keeps the page from the server; null where nothing does.
export function showTrouble(error) {
  const box = $("#trouble");
  if (error && !(error instanceof ServerError)) console.error(error);
  box.hidden = !error;
  write($("p", box), error ? error.message : "");
  set($("button", box), { hidden: error?.status !== 401 });
}

async function readModels() {
  const { data } = await getJSON("v1/models");
  setModels(data);
  const base = data.find((model) => !model.parent);
  write($("#server"), base ? base.id : "training");
  if (canChat === data.length > 0) return;
  canChat = data.length > 0;
  $("#to-chat").hidden = !canChat;
  $("#to-runs").hidden = false;
  showPage();
}

// New ladders appear, and ones that are gone go, while the page is open.
async function watchModels() {
  if (!document.hidden || canChat === null) {
    try {
      await readModels();
      showTrouble(null);
    } catch (error) {
      showTrouble(error);
    }
  }
  setTimeout(watchModels, 4000);
}

askForKeyWith(questionForKey);
$("#trouble button").addEventListener("click", () => {
  askAgain();
  readModels().then(() => showTrouble(null), showTrouble);
});
startChat();
startRuns();
addEventListener("hashchange", showPage);
watchModels();
