// Searches that somebody keeps, in this browser alone: their names and filters, as links beside the ready-made ones.
const KEPT = "views";

const read = () => JSON.parse(localStorage.getItem(KEPT) ?? "{}");
const write = (views) => localStorage.setItem(KEPT, JSON.stringify(views));

// Show what is kept in `nav`, and keep more by `form`.
export function offer(nav, form) {
  const show = () => {
    nav.querySelectorAll("span").forEach((each) => each.remove());
    for (const [name, query] of Object.entries(read())) {
      const [view, link, drop] = ["span", "a", "button"].map((tag) => document.createElement(tag));
      link.textContent = name;
      link.href = `/console/events${query}`;
      drop.textContent = "×";
      drop.className = "quiet small";
      drop.ariaLabel = `Forget the view ${name}`;
      drop.addEventListener("click", () => {
        const { [name]: _, ...others } = read();
        write(others);
        show();
        form.elements.name.focus();
      });
      view.append(link, drop);
      nav.append(view);
    }
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const filters = new URLSearchParams(location.search);
    filters.delete("cursor");
    write({ ...read(), [form.elements.name.value.trim()]: filters.size ? `?${filters}` : "" });
    form.reset();
    show();
  });
  show();
}
