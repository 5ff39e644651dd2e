# SPDX-License-Identifier: GPL-2.0-or-later
# What zsh makes of a line when its user presses the tabulator key: at a terminal, as he has it.
#
#   zsh -f complete.zsh PACKAGING PROGRAMS LINE
#
# PACKAGING is the directory of the sources with the completions, PROGRAMS that where snapd-cli is. Prints the line as it is then.
zmodload zsh/zpty || exit
# As the package has them.
share=$(mktemp -d) || exit
trap 'rm -r $share' EXIT
mkdir -p $share/{bash-completion/completions,zsh/vendor-completions} || exit
cp $1/bash-completion/snapd-cli $share/bash-completion/completions || exit
cp $1/zsh-completion/_snapd-cli $share/zsh/vendor-completions || exit

zpty shell "PATH=${(q)2}:\$PATH exec zsh -f -i"
zpty -w shell "PS1= PS2=; fpath=(${(q)share}/zsh/vendor-completions \$fpath)"
zpty -w shell "autoload -Uz compinit; compinit -D -u; setopt no_list_beep no_auto_list"
# A tabulator with something behind it would be taken for one that was pasted.
zpty -w shell "zstyle ':completion:*' insert-tab false"
# The line is printed where it can be read without a terminal's signs.
zpty -w shell 'tell() { zle -I; print -r -- "line:${BUFFER}:end"; }; zle -N tell; bindkey "^T" tell; print rea""dy'
zpty -r shell said '*ready*'
zpty -n -w shell "$3"$'\t\x14'
zpty -r shell said '*line:*:end*'
print -r -- "${${said##*line:}%:end*}"
zpty -d shell
