"""The JSON Schema that editors use, generated from TaskSpec."""

import json

from optio.model.task import TaskSpec


def task_schema() -> str:
    """`schemas/task.schema.json`, ready to be written."""
    schema = TaskSpec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Optio task"
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
