// Pointing at a token, or tapping it, shows the tokens that share its row.
for (const box of document.querySelectorAll(".tokens")) {
  const status = box.previousElementSibling;
  const tokens = [...box.querySelectorAll("span")];
  const members = new Map();  // row: its tokens
  for (const token of tokens) {
    for (const row of token.dataset.rows.split(" ").filter(Boolean)) {
      if (!members.has(row)) members.set(row, []);
      members.get(row).push(token);
    }
  }
  const describe = (row) => {
    const pieces = members.get(row).map((token) => "“" + token.textContent + "”");
    const count = pieces.length;
    return `Row ${row}: ${count === 1 ? "one token" : count + " tokens merged"}: ${pieces.join(" ")}`;
  };
  const show = (token) => {
    for (const shown of box.querySelectorAll(".shown")) shown.classList.remove("shown");
    const rows = token.dataset.rows.split(" ").filter(Boolean);
    for (const row of rows) for (const member of members.get(row)) member.classList.add("shown");
    token.classList.add("shown");
    const place = `Token ${tokens.indexOf(token)}. `;
    const fate = rows.length ? rows.map(describe).join(". ") : `“${token.textContent}” was dropped.`;
    status.textContent = place + fate;
  };
  for (const event of ["mouseover", "click"]) {
    box.addEventListener(event, ({target}) => target.matches("span") && show(target));
  }
}
