"""The local Google answers the calls of the official gcp provider with the recorded statuses.

The recorded program had a custom role; the program of today has a predefined one.
"""

import json

from tests.rehearsal.local_google import Google, official_calls

CUSTOM_ROLE = "projects/pull-study-rehearsal/roles/pullStudyExpiry_trial"


def test_every_recorded_call_gets_its_recorded_status(google: Google) -> None:
    operation, suffix = "", "1111111"
    for recorded in official_calls():
        if "/roles" in recorded["path"]:
            continue
        if recorded["during"] == "up-again":
            suffix = "2222222"  # the first bucket stays
        text = json.dumps(recorded).replace("SUFFIX", suffix).replace("OPERATION", operation)
        text = text.replace(CUSTOM_ROLE, "roles/container.clusterAdmin")
        call = json.loads(text)
        path, body = call["path"].lstrip("/"), call["body"]
        if path.endswith(":setResourceLabels"):
            cluster = google.ok("GET", path.rpartition(":")[0])
            body["labelFingerprint"] = cluster["labelFingerprint"]
        if path.endswith(":setIamPolicy"):
            policy = google.ok("POST", f"{path.rpartition(':')[0]}:getIamPolicy", {})
            body["policy"]["etag"] = policy["etag"]
        if path.endswith("/iam") and body:
            body["etag"] = google.ok("GET", path)["etag"]
        params = dict(pair.replace("%2C", ",").split("=", 1) for pair in call["query"])
        answer = google.call(call["method"], path, body, **params)
        assert answer.status_code == call["status"], (text, answer.text)
        content = answer.json()
        if "operationType" in content:
            operation = google.finish(content)["name"]
