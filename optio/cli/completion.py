"""Print a script that completes commands, verbs, flags and ids in your shell.

bash   add to ~/.bashrc:                  eval "$(optio completion bash)"
zsh    add to ~/.zshrc, after compinit:   eval "$(optio completion zsh)"
fish   once:   optio completion fish > ~/.config/fish/completions/optio.fish

Ids of tasks come from the task directory or the server, ids of runs and deliveries from the server. A server that
does not answer within a second is left out.
"""

import argparse

from optio.cli import OK

# Readline breaks words at some of `@=:`; what stands before the last of them in the word must not be repeated. `@` belongs to
# the word that it begins.
_BASH = r"""_optio() {
    local line=${COMP_LINE:0:COMP_POINT} word lead="" part candidate description files=""
    word=${line##*[[:space:]]}
    for part in @ = :; do
        [[ $COMP_WORDBREAKS == *"$part"* && $word == *"$part"* ]] || continue
        candidate=${word%"${word##*"$part"}"}
        candidate=${candidate%@}
        [[ ${#candidate} -le ${#lead} ]] || lead=$candidate
    done
    COMPREPLY=()
    while IFS=$'\t' read -r candidate description; do
        if [[ $candidate == :files ]]; then files=1; else COMPREPLY+=("${candidate#"$lead"}"); fi
    done < <("${COMP_WORDS[0]}" __complete --line "$line" 2>/dev/null)
    if [[ -n $files ]]; then compopt -o default 2>/dev/null; fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
    return 0
}
complete -o nosort -F _optio optio 2>/dev/null || complete -F _optio optio
"""
_ZSH = r"""#compdef optio
_optio() {
    local line files=""
    local -a values shown open
    for line in "${(@f)$("${words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) files=1 ;;
            *=) open+=("$line") ;;
            *) values+=("${line%%$'\t'*}"); shown+=("${line/$'\t'/  -- }") ;;
        esac
    done
    if (( $#values )); then compadd -l -V optio -d shown -a values; fi
    if (( $#open )); then compadd -S '' -a open; fi
    if [[ -n $files ]]; then _files; fi
}
if [[ $funcstack[1] == _optio ]]; then _optio "$@"; else compdef _optio optio; fi
"""
_FISH = r"""function __optio_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..] 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            printf '%s\n' $line
        end
    end
end
complete -c optio -f -k -a '(__optio_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # As it stands above: lines of a shell must not be filled.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SCRIPTS, help="the shell that the script is for")


def run(args: argparse.Namespace) -> int:
    """Print the script. Returns 0."""
    print(SCRIPTS[args.shell], end="")
    return OK
