// Follows the log: events that fit the search appear on top as they are written.
const MOST = 200;

const part = (value) => encodeURIComponent(value);

function rowOf(template, event) {
  const row = template.content.firstElementChild.cloneNode(true);
  const [, number, time, what, outcome, who, where, why] = row.cells;
  number.firstElementChild.textContent = event.index;
  number.firstElementChild.href = `/console/events/${event.index}`;
  time.firstElementChild.dateTime = event.time;
  time.firstElementChild.textContent = event.time.slice(0, 19).replace("T", " ");
  what.textContent = event.event;
  outcome.firstElementChild.textContent = event.outcome;
  outcome.firstElementChild.classList.add(event.outcome);
  link(who, event.who, `actor=${part(event.who)}`);
  link(where, event.where, event.where.split("/").length === 3 ? `instance=${part(event.where)}` : "");
  why.textContent = event.why || "—";
  return row;
}

function link(cell, text, query) {
  if (!text || !query) {
    cell.textContent = text || "—";
    return;
  }
  const anchor = document.createElement("a");
  anchor.textContent = text;
  anchor.href = `/console/events?${query}`;
  cell.append(anchor);
}

// Offer to follow from `panel`, into `rows`; `template` is how a row looks.
export function offer(panel, rows, template) {
  const [button, status] = ["button", "[role=status]"].map((each) => panel.querySelector(each));
  let stream = null;
  let after = Number(panel.dataset.after);
  let seen = 0;
  const say = (sentence) => {
    status.textContent = sentence;
  };
  const stop = (sentence) => {
    stream?.close();
    stream = null;
    button.ariaPressed = "false";
    button.textContent = "Follow live";
    say(sentence);
  };
  const start = () => {
    const filters = new URLSearchParams(location.search);
    for (const [name, value] of [...filters]) if (!value || ["limit", "cursor"].includes(name)) filters.delete(name);
    filters.set("after", after);
    stream = new EventSource(`/console/tail?${filters}`);
    stream.onopen = () => say("Following: nothing new yet.");
    stream.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.index <= after) return;
      after = event.index;
      seen += 1;
      rows.prepend(rowOf(template, event));
      while (rows.rows.length > MOST) rows.deleteRow(-1);
      say(`Following: ${seen} new ${seen === 1 ? "event" : "events"}.`);
    };
    stream.addEventListener("over", () => {
      stream.close();
      start(); // who may not read any more is turned away then
    });
    stream.onerror = () => {
      if (stream?.readyState === EventSource.CLOSED) stop("The broker does not let this page follow any more.");
      else say("The connection is lost; trying again.");
    };
    button.ariaPressed = "true";
    button.textContent = "Stop following";
  };
  panel.hidden = false;
  button.addEventListener("click", () => (stream ? stop("") : start()));
}
