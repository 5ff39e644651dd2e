# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collection says of itself: that its texts are complete, are what the programs do, and can be run."""

import importlib
import json
import re
import shutil
import sys
import threading
from unittest import mock

import yaml

from ansible_bed import COLLECTION, SOURCE, examples, expect

MODULES = sorted(path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py"))
# Tests run side by side.
IMPORTING = threading.Lock()


def role_options():
    return yaml.safe_load((COLLECTION / "roles/cowsnap/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def test_ansible_lint_has_nothing_to_say(controller):
    copy = controller.directory / "lint"
    shutil.copytree(COLLECTION, copy)
    # It puts what it lints among the collections of its home, and this home is for others, too.
    home = controller.directory / "home"
    home.mkdir()
    said = controller.succeed(["ansible-lint", "--offline", "--nocolor", "--strict"], cwd=copy,
                              environment={"HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(controller.collection.parents[2])})
    expect("Passed with production profile" in said, said)


def test_ansible_doc_shows_modules_and_role(controller):
    names = [f"cowsnap.cowsnap.{name}" for name in MODULES]
    shown = controller.answer(["ansible-doc", "--json", *names])
    for name in names:
        expect(all(shown[name].get(part) for part in ("doc", "examples", "return")), f"{name} lacks documentation", shown[name])
        expect(shown[name]["doc"].get("requirements") and shown[name]["doc"].get("attributes"), f"{name} lacks what all have")
        controller.succeed(["ansible-doc", name])
    role = controller.answer(["ansible-doc", "--json", "-t", "role", "cowsnap.cowsnap.cowsnap"])
    expect(set(role["cowsnap.cowsnap.cowsnap"]["entry_points"]["main"]["options"]) == set(role_options()), role)


def argument_spec(controller, name):
    """What a module really takes."""
    class Seen(Exception):
        pass

    with IMPORTING:
        collections = str(controller.collection.parents[2])
        if collections not in sys.path:
            sys.path.append(collections)
        module = importlib.import_module(f"ansible_collections.cowsnap.cowsnap.plugins.modules.{name}")
        with mock.patch.object(module, "AnsibleModule", side_effect=Seen) as made:
            try:
                module.main()
            except Seen:
                pass
        return made.call_args.kwargs["argument_spec"], yaml.safe_load(module.DOCUMENTATION)["options"]


def test_what_a_module_takes_is_what_its_documentation_says(controller):
    for name in MODULES:
        taken, documented = argument_spec(controller, name)
        for option in set(taken) | set(documented):
            spec = {key: value for key, value in taken.get(option, {}).items()}
            text = {key: value for key, value in documented.get(option, {}).items() if key != "description"}
            expect(spec == text, f"{name}: the option {option}", spec, text)


def test_the_defaults_of_the_role_are_those_that_it_documents(controller):
    defaults = yaml.safe_load((COLLECTION / "roles/cowsnap/defaults/main.yml").read_text())
    expect(defaults == {name: option["default"] for name, option in role_options().items()}, defaults)
    readme = (COLLECTION / "roles/cowsnap/README.md").read_text()
    for name, option in role_options().items():
        expect(f"`{name}`" in readme, f"README.md of the role does not have {name}")
        for key in option.get("options", {}) if name != "cowsnap_configuration" else ():
            line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
            expect(f"`{key}`" in line, f"README.md of the role does not have {key} of {name}")


def test_the_role_knows_the_keys_of_the_configuration(controller):
    known = re.findall(r'^  "(\w+)":', (SOURCE / "packaging" / "cowsnapd.conf").read_text(), re.MULTILINE)
    options = role_options()["cowsnap_configuration"]["options"]
    expect(known and set(known) == set(options), f"the daemon has the keys {known}, the role {list(options)}")


def test_examples_are_right_in_their_syntax(controller):
    playbooks = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", (COLLECTION / "README.md").read_text(),
                                                             re.MULTILINE | re.DOTALL)]
    for name in MODULES:
        playbooks.append(yaml.safe_load(examples(name)))
    expect(len(playbooks) == 2 + len(MODULES), "README.md has not the examples that it had")
    for number, playbook in enumerate(playbooks):
        path = controller.directory / f"example-{number}.json"
        path.write_text(json.dumps(playbook if "hosts" in playbook[0] else [{"hosts": "all", "tasks": playbook}]))
        controller.succeed(["ansible-playbook", "--syntax-check", "-i", "localhost,", path])
        # That does not look at the arguments of modules.
        for task in playbook if "hosts" not in playbook[0] else ():
            module, arguments = next((key, value) for key, value in task.items() if key.startswith("cowsnap."))
            taken, _ = argument_spec(controller, module.rsplit(".", 1)[1])
            expect(set(arguments) <= set(taken), f"{module} does not take {set(arguments) - set(taken)}")
    controller.succeed(["ansible-playbook", "--syntax-check", "-i", "localhost,", "cowsnap.cowsnap.example"])
