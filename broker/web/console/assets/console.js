// What pages gain where scripts run. Everything is there without it too, except that a browser checks by itself.
import * as live from "./live.js";
import { verify } from "./proof.js";
import * as views from "./views.js";

for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = `${time.dateTime}, here ${new Date(time.dateTime).toLocaleString()}`;
}

const proof = document.querySelector("#proof");
if (proof) {
  const evidence = JSON.parse(proof.dataset.evidence);
  const [key, button, steps] = ["input", "button", "ol"].map((name) => proof.querySelector(name));
  const pinned = localStorage.getItem("verifier");
  key.value = pinned ?? evidence.verifier;
  proof.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    steps.replaceChildren();
    const say = (sentence, good = true) => {
      const step = document.createElement("li");
      step.textContent = sentence;
      step.className = good ? "good" : "bad";
      steps.append(step);
    };
    try {
      await verify(evidence, key.value.trim(), localStorage, say);
      proof.dataset.outcome = "verified";
    } catch (problem) {
      say(`Not proved: ${problem.message}`, false);
      proof.dataset.outcome = "refuted";
    }
    button.disabled = false;
  });
}

const keep = document.querySelector("#keep");
if (keep) views.offer(document.querySelector("nav.views"), keep);

const follow = document.querySelector("#follow");
const rows = document.querySelector("table.events tbody");
if (follow && rows) live.offer(follow, rows, document.querySelector("#row"));
