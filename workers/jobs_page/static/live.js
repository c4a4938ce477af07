/* What the pages of jobs share: they ask again and again, say how that goes, and write only what has changed. */
window.docmill = (function () {
    "use strict";

    const dot = document.getElementById("live-dot");
    const status = document.getElementById("live-status");
    const alert = document.getElementById("live-error");
    const LONGEST_PAUSE = 30000; // milliseconds

    function setText(element, text) {
        if (element.textContent !== text) {
            element.textContent = text;
        }
    }

    function make(tag, className, text) {
        const element = document.createElement(tag);
        element.className = className || "";
        element.textContent = text === undefined ? "" : text;
        return element;
    }

    /* Said once to those who listen to the page. */
    function announce(text) {
        setText(document.getElementById("announcement"), text);
    }

    async function answer(request) {
        let response;
        try {
            response = await request;
        } catch (error) {
            throw new Error("Flower does not answer.");
        }
        if (response.type === "opaqueredirect" || response.status === 401) {
            throw new Error("The login has expired: reload the page.");
        }
        const text = await response.text();
        let data;
        try {
            data = JSON.parse(text);
        } catch (error) {
            throw new Error("Flower answered " + response.status + ".");
        }
        if (!response.ok) {
            throw new Error(data.error);
        }
        return data;
    }

    function get(url, parameters) {
        const query = new URLSearchParams(parameters).toString();
        return answer(fetch(query ? url + "?" + query : url, {redirect: "manual", cache: "no-store"}));
    }

    function post(url) {
        const token = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]+)/);
        const headers = {"X-XSRFToken": token ? decodeURIComponent(token[1]) : ""};
        return answer(fetch(url, {method: "POST", headers: headers, redirect: "manual"}));
    }

    function showLive(error) {
        dot.classList.toggle("status-dot-live", !error);
        dot.classList.toggle("status-dot-error", Boolean(error));
        setText(status, error ? "Not up to date" : "Live");
        if (error) {
            setText(alert, error.message.replace(/\.$/, "") + ". Trying again.");
        }
        alert.hidden = !error;
    }

    /*
     * Look now, and then again and again while the page is seen. Returns a function that looks at once.
     * A ledger that is slow to answer is asked less often.
     */
    function live(look, every) {
        let timer = 0, isLooking = false, isWanted = false;

        async function turn() {
            if (isLooking) {
                isWanted = true;
                return;
            }
            window.clearTimeout(timer);
            isLooking = true;
            isWanted = false;
            const begun = performance.now();
            let error = null;
            try {
                await look();
            } catch (caught) {
                error = caught;
            }
            isLooking = false;
            const pause = Math.max(every(), error ? 0 : Math.min(LONGEST_PAUSE, 10 * (performance.now() - begun)));
            showLive(error);
            if (isWanted) {
                turn();
            } else if (!document.hidden) {
                timer = window.setTimeout(turn, pause);
            }
        }

        document.addEventListener("visibilitychange", function () {
            window.clearTimeout(timer);
            if (!document.hidden) {
                turn();
            }
        });
        turn();
        return turn;
    }

    /*
     * Fill a table: one row an item, found again by its key, so that focus and selection stay where they are.
     * Each cell is a function of (td, item), which writes what has changed.
     */
    function fillRows(body, items, keyOf, cells) {
        const rows = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
        const focused = document.activeElement;
        items.forEach(function (item, index) {
            const key = String(keyOf(item));
            let row = rows.get(key);
            rows.delete(key);
            if (!row) {
                row = make("tr");
                row.dataset.key = key;
                cells.forEach(function (cell) {
                    const made = row.appendChild(make(cell.isHeader ? "th" : "td", cell.className));
                    if (cell.isHeader) {
                        made.scope = "row";
                    }
                });
            }
            cells.forEach((cell, column) => cell.write(row.cells[column], item));
            if (body.rows[index] !== row) {
                body.insertBefore(row, body.rows[index] || null);
            }
        });
        rows.forEach((row) => row.remove());
        if (focused !== document.activeElement && body.contains(focused)) {
            focused.focus({preventScroll: true});
        }
    }

    /* The two buttons and the sentence below a table. `state` has page and size; `turned` is called with another page. */
    function pager(name, what, state, turned) {
        const previous = document.getElementById(name + "-previous"), next = document.getElementById(name + "-next");
        previous.addEventListener("click", () => turned(state.page - 1));
        next.addEventListener("click", () => turned(state.page + 1));
        return function (total) {
            const first = state.page * state.size + 1, last = Math.min(total, first + state.size - 1);
            const number = docmill.write.number;
            setText(
                document.getElementById(name + "-range"),
                total ? "Showing " + number(Math.min(first, last)) + " to " + number(last) + " of " + number(total) + " " + what
                    : "No " + what + " to show"
            );
            previous.disabled = state.page === 0;
            next.disabled = last >= total;
        };
    }

    return {announce, fillRows, get, live, make, pager, post, setText};
}());
