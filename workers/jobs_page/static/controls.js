/* The buttons of a job: what stops something asks first, and what came of it is said. */
(function () {
    "use strict";

    const {post, setText} = docmill;
    const page = document.getElementById("job-page");
    const result = document.getElementById("job-result");
    const refusal = document.getElementById("refusal"); // why the buttons are switched off, if they are
    const dialog = document.getElementById("confirmation");
    const buttons = Array.from(page.querySelectorAll("[data-action]"));
    const QUESTIONS = {
        cancel: ["Cancel this job? What is committed stays; nothing more is.", "Cancel the job"],
    };

    function isSure(action) {
        const question = QUESTIONS[action];
        if (!question) {
            return Promise.resolve(true);
        }
        setText(document.getElementById("confirmation-text"), question[0]);
        setText(document.getElementById("confirmation-yes"), question[1]);
        dialog.returnValue = "no";
        dialog.showModal();
        return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), {once: true}));
    }

    function say(kind, message, job) {
        result.className = "alert alert-" + kind;
        result.textContent = message;
        if (job && !page.dataset.url.endsWith(job)) {
            const link = document.createElement("a");
            link.className = "alert-link ms-2";
            link.href = page.dataset.jobUrl.replace(/0{12}$/, job);
            link.textContent = "Follow it";
            result.appendChild(link);
        }
        result.hidden = false;
        result.focus(); // the button may be gone, and far from here
    }

    /* `done` is called after each control, to look at the job at once. */
    docmill.controls = function (done) {
        buttons.forEach((button) => button.addEventListener("click", async function () {
            if (!await isSure(button.dataset.action)) {
                return;
            }
            buttons.forEach((other) => { other.disabled = true; });
            try {
                const found = await post(page.dataset.url + "/" + button.dataset.action);
                say("success", found.message, found.job);
            } catch (error) {
                say("danger", error.message);
            }
            buttons.forEach((other) => { other.disabled = false; });
            done();
        }));

        /* Show those that make sense for the job as it is. */
        return function (job, kept) {
            const makesSense = {
                cancel: job.is_open && job.state !== "cancelling",
                pause: job.is_open && job.state !== "cancelling" && !job.paused,
                resume: job.is_open && job.paused,
                retry: kept > 0,
            };
            buttons.forEach(function (button) {
                button.hidden = !makesSense[button.dataset.action];
            });
            if (refusal) {
                refusal.hidden = buttons.every((button) => button.hidden);
            }
        };
    };
}());
