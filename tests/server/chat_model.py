"""A model that has no chat template, with one that Baleen knows. Standard library only."""
import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = "deepseek-v3.1-rev2"  # chooses between thinking and not


def chat_model(model, folder, template=GOLDEN):
    """The model's files in `folder`, with a program of the golden template's words."""
    for file in pathlib.Path(model).resolve().iterdir():
        os.symlink(file, folder / file.name)
    golden = json.loads((ROOT / "tests/golden/chat_templates.json").read_text())
    item = next(i for i in golden["templates"] if i["name"] == template)
    texts = "".join("{{ '%s' }}" % text.replace("\n", "\\n") for text in item["texts"])
    (folder / "chat_template.jinja").write_text(texts + "{% " + " ".join(item["names"]) + " %}")
    return folder
