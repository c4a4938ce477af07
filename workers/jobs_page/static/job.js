/* The page of one job. */
(function () {
    "use strict";

    const {announce, chart, controls, fillRows, get, live, make, pager, setText} = docmill;
    const {MISSING, badge, progress, text} = docmill.cells;
    const {duration, money, number, percent, rate} = docmill.write;
    const byId = (id) => document.getElementById(id);

    const page = byId("job-page");
    const batchesAsked = {state: "all", page: 0, size: 25};
    const failuresAsked = {page: 0, size: 25};
    let isOpen = true, lastState = null, failuresOf = null, kept = 0;

    const drawThroughput = chart(byId("throughput-chart"), byId("throughput-text"));
    const showControls = controls(() => { failuresOf = null; lookNow(); });
    const showBatchPage = pager("batches", "batches", batchesAsked, function (number) {
        batchesAsked.page = number;
        lookNow();
    });
    const showFailurePage = pager("failures", "failures", failuresAsked, function (number) {
        failuresAsked.page = number;
        failuresOf = null;
        lookNow();
    });

    /* Label and value pairs of a description list, in order. */
    function fillDetails(list, pairs) {
        while (list.children.length > pairs.length) {
            list.lastChild.remove();
        }
        pairs.forEach(function ([label, value], index) {
            let row = list.children[index];
            if (!row) {
                row = list.appendChild(make("div", "detail-row"));
                row.append(make("dt"), make("dd"));
            }
            setText(row.firstChild, label);
            setText(row.lastChild, value);
        });
    }

    function written(counts, words) {
        return words.filter(([name]) => counts[name]).map(([name, word]) => number(counts[name]) + " " + word).join(", ");
    }

    function billed(line) {
        const kinds = written(line, [["embedding", "embedding"], ["prompt", "prompt"], ["completion", "completion"]]);
        const notes = written(line, [["cached", "of the prompt cached by the provider"], ["estimated", "estimated"]]);
        return [line.transformation + (line.model ? " by " + line.model : ""),
            (kinds || "0") + " tokens" + (notes ? " (" + notes + ")" : "")];
    }

    function showJob(job) {
        const documents = job.documents;
        const settled = documents.new + documents.changed + documents.unchanged + documents.duplicate + documents.failed;
        setText(byId("job-collection"), job.collection);
        badge(byId("job-state"), job.state, job.paused);
        byId("job-error").hidden = !job.error;
        setText(byId("job-error"), job.error || "");
        setText(byId("metric-batches"), number(job.batches_done) + " / " + number(job.batches_total));
        progress(byId("job-progress"), job.batches_done, job.batches_total, "Batches done", job.state);
        setText(byId("metric-eta"), job.is_open
            ? (job.seconds_left === null ? "Time left unknown" : "About " + duration(job.seconds_left) + " left")
            : "Took " + duration(job.seconds));
        setText(byId("metric-documents"), number(settled) + " / " + number(documents.seen));
        setText(byId("metric-speed"), job.documents_per_second === null ? "None a second"
            : rate(job.documents_per_second) + " a second" + (job.is_open ? " in the last minute" : ""));
        setText(byId("metric-nodes"), number(job.nodes));
        setText(byId("metric-tokens"), number(job.tokens) + " tokens" +
            (job.cost === null ? "" : ", cost " + money(job.cost)));
        setText(byId("metric-failed"), number(documents.failed));
        byId("metric-why").hidden = !documents.failed;
        fillDetails(byId("details"), [
            ["Strategy", job.strategy.replaceAll("_", " ")],
            ["Priority", job.priority],
            ["Started by", job.started_by || MISSING],
            ["Enqueued", new Date(job.created_at).toLocaleString("en", {dateStyle: "medium", timeStyle: "medium"})],
            ["Ended", job.finished_at
                ? new Date(job.finished_at).toLocaleString("en", {dateStyle: "medium", timeStyle: "medium"}) : MISSING],
            ["Documents", written(documents, [["seen", "seen"], ["new", "new"], ["changed", "changed"],
                ["unchanged", "unchanged"], ["duplicate", "duplicate"], ["deleted", "deleted"], ["failed", "failed"]]) || "0"],
            ["Batches", written(job.batch_states, Object.keys(job.batch_states).map((state) => [state, state])) || "0"],
            ["Cache", number(job.cache.hits) + " hits, " + number(job.cache.misses) + " misses (" +
                percent(job.cache_hit_rate) + ")"],
            ...job.bill.map(billed),
        ]);
        setText(byId("spec"), JSON.stringify(job.spec, null, 2));
        if (lastState !== null && lastState !== job.state) {
            announce("The job is now " + job.state.replaceAll("_", " "));
        }
        lastState = job.state;
        isOpen = job.is_open;
    }

    const STAGES = [["transforming", "Transforming"], ["committing", "Committing"], ["waiting", "Waiting for a worker"]];

    function showStages(found) {
        const times = Object.fromEntries(found.stages.map((time) => [time.stage, time]));
        const lines = STAGES.map(([stage, label]) => Object.assign({label: label}, times[stage]));
        lines.push({stage: "rest", label: "The rest", seconds: found.rest, per_batch: null});
        fillRows(byId("stages-body"), lines, (line) => line.stage, [
            {
                isHeader: true,
                className: "job-stage",
                write: function (cell, line) {
                    if (!cell.firstChild) {
                        cell.append(make("span", "job-stage-mark job-stage-" + line.stage), make("span", "", line.label));
                    }
                },
            },
            text((line) => duration(line.seconds), "jobs-number"),
            text((line) => percent(found.seconds ? line.seconds / found.seconds : 0), "jobs-number"),
            text((line) => duration(line.per_batch), "jobs-number"),
        ]);
        const bar = byId("stages-bar");
        lines.forEach(function (line, index) {
            const part = bar.children[index] || bar.appendChild(make("span", "job-stage-" + line.stage));
            part.style.flexGrow = String(found.seconds ? 100 * line.seconds / found.seconds : 0);
        });
    }

    function task(cell, batch) {
        if (!batch.task) {
            setText(cell, MISSING);
            cell.title = "Flower has not seen it, or not any more";
            return;
        }
        let link = cell.querySelector("a");
        if (!link) {
            cell.replaceChildren();
            cell.removeAttribute("title");
            link = cell.appendChild(make("a"));
        }
        link.href = page.dataset.taskUrl.replace(/0$/, batch.task);
        link.setAttribute("aria-label", "Task of batch " + batch.number);
        setText(link, batch.task.slice(0, 8));
    }

    const BATCH_CELLS = [
        Object.assign({isHeader: true}, text((batch) => String(batch.number), "jobs-number")),
        {write: (cell, batch) => badge(cell, batch.state, false)},
        text((batch) => number(batch.documents), "jobs-number"),
        text((batch) => number(batch.nodes), "jobs-number jobs-secondary"),
        text((batch) => duration(batch.waited), "jobs-number jobs-secondary"),
        text((batch) => duration(batch.transformed), "jobs-number jobs-secondary"),
        text((batch) => duration(batch.committed), "jobs-number jobs-secondary"),
        text((batch) => number(batch.attempt), "jobs-number"),
        text((batch) => batch.reason || batch.owner || MISSING, "job-reason jobs-secondary"),
        {write: task},
    ];

    function showBatches(found) {
        fillRows(byId("batches-body"), found.batches, (batch) => batch.number, BATCH_CELLS);
        byId("batches-message").hidden = found.batches.length > 0;
        setText(byId("batches-message"), batchesAsked.state === "all"
            ? "The job has no batches." : "No batch is in this state.");
        showBatchPage(found.batches_total);
    }

    function showFailure(place, failure) {
        const title = place.appendChild(make("h3", "job-failure-title"));
        title.append(make("code", "", failure.document), " ", make("span", "badge text-bg-danger", failure.stage));
        place.appendChild(make("p", "job-failure-message", failure.error + ": " + failure.message));
        const tries = failure.attempts === 1 ? "tried once" : "tried " + number(failure.attempts) + " times";
        place.appendChild(make("p", "metric-note", [
            failure.transformation ? "in " + failure.transformation : "", tries,
            failure.can_retry ? "kept, and can be tried again" : "not kept: ingest its source again",
        ].filter(Boolean).join(", ")));
        if (failure.traceback) {
            const details = place.appendChild(make("details"));
            details.appendChild(make("summary", "", "Traceback"));
            const code = details.appendChild(make("pre", "detail-code", failure.traceback));
            code.tabIndex = 0;
        }
    }

    /* Asked for only when their number has changed: tracebacks are long, and one that is being read stays open. */
    async function lookAtFailures(job) {
        const wanted = JSON.stringify([job.documents.failed, job.state, failuresAsked]);
        if (failuresOf === wanted) {
            return;
        }
        const found = await get(page.dataset.url + "/failures", failuresAsked);
        failuresOf = wanted;
        kept = found.kept;
        const body = byId("failures-body");
        const shown = JSON.stringify(found.failures);
        if (body.dataset.shown !== shown) {
            body.dataset.shown = shown;
            body.replaceChildren();
            found.failures.forEach((failure) => showFailure(body.appendChild(make("article", "job-failure")), failure));
        }
        setText(byId("failures-count"), found.total ? number(found.total) : "");
        const notes = [];
        if (!found.total) {
            notes.push(job.documents.failed ? "All that failed has been ingested since." : "No document has failed.");
        }
        if (found.dropped) {
            notes.push(number(found.dropped) + " documents were in batches that ended with the job; ingest their source again.");
        }
        setText(byId("failures-message"), notes.join(" "));
        byId("failures-message").hidden = !notes.length;
        byId("failures-footer").hidden = found.total <= failuresAsked.size;
        showFailurePage(found.total);
        setText(page.querySelector("[data-action=retry]"), "Retry " + number(found.kept) + " failed");
    }

    const lookNow = live(async function () {
        const looked = JSON.stringify(batchesAsked);
        const found = await get(page.dataset.url + "/data", batchesAsked).catch(function (error) {
            setText(byId("job-message"), "The job could not be loaded.");
            throw error;
        });
        byId("job-message").hidden = true;
        byId("job-content").hidden = false;
        showJob(found.job);
        showStages(found.stages);
        drawThroughput(found.throughput);
        if (looked === JSON.stringify(batchesAsked)) {
            showBatches(found);
        }
        await lookAtFailures(found.job);
        showControls(found.job, kept);
    }, () => isOpen ? 1500 : 10000);

    byId("batches-state").addEventListener("change", function (event) {
        batchesAsked.state = event.target.value;
        batchesAsked.page = 0;
        lookNow();
    });
}());
