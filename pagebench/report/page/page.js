// A click on a column's head sorts by it: numbers as numbers, what has none last.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
	const heads = [...table.tHead.rows[0].cells];
	heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
		const down = head.getAttribute("aria-sort") === "ascending";
		const numeric = [...table.tBodies[0].rows].some((row) => "value" in row.cells[column].dataset);
		const key = (row) => {
			const cell = row.cells[column];
			return numeric ? parseFloat(cell.dataset.value) : cell.textContent;
		};
		const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
		rows.sort(([a], [b]) => {
			if (numeric && (Number.isNaN(a) || Number.isNaN(b))) {
				return Number.isNaN(a) - Number.isNaN(b);
			}
			const order = numeric ? a - b : a.localeCompare(b);
			return down ? -order : order;
		});
		heads.forEach((other) => other.setAttribute("aria-sort", "none"));
		head.setAttribute("aria-sort", down ? "descending" : "ascending");
		table.tBodies[0].append(...rows.map(([, row]) => row));
	}));
}
