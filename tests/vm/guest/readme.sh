# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Runs the shell blocks of README.md and of other documents, so that they do not rot. Sourced behind lib.sh. A block that has
# a line <!-- vm: NAME --> above it is part of NAME.

# readme_commands NAME [DOCUMENT]: the lines of these blocks, of README.md unless another document of the tree is named.
readme_commands() {
	awk -v marker="<!-- vm: $1 -->" '
		$0 == marker { wanted = 1; next }
		/^```sh$/ && wanted { inside = 1; wanted = 0; next }
		/^```$/ { inside = 0 }
		inside { print }
	' "$SRC/${2-README.md}"
}

# run_readme NAME: runs the blocks line by line, in this shell; the first that fails ends the test as failed.
run_readme() {
	local line command=
	while IFS= read -r line; do
		if [[ $line == *\\ ]]; then
			command+=${line%\\}
			continue
		fi
		command+=$line
		printf '# %s\n' "$command"
		# Not in a check(): variables and jobs must stay.
		eval "$command" || fail "README.md: '$command' failed"
		command=
	done < <(readme_commands "$1" | grep . || echo false)
}
