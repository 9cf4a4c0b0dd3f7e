"""Write the JSON Schemas in ``docs/schemas`` from the types they describe."""

from __future__ import annotations

import json
from pathlib import Path

from gpupilot_agent import proof, results, tuned
from gpupilot_baseline import results as baseline
from gpupilot_envs.profile import FORMAT, ServiceProfile

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def profile_schema() -> str:
    """Return the schema of ``gpupilot/profile-v1`` as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": FORMAT}
    schema |= ServiceProfile.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def schemas() -> dict[str, str]:
    """Return the text of every schema by the name of its file."""
    return {
        "profile-v1.json": profile_schema(),
        "comparison-v1.json": results.json_schema(),
        "tuned-v1.json": tuned.json_schema(),
        "proof-v1.json": proof.json_schema(),
        "baseline-v1.json": baseline.json_schema(),
    }


def main() -> None:
    """Write every schema."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
