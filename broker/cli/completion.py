"""`broker completion`: a script that lets the shell complete commands, options, files and instances."""

from __future__ import annotations

import sys

from broker.cli.exits import Exit
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_BASH = r"""# Completion of broker for bash. To have it in every shell:
#   echo 'eval "$(broker completion bash)"' >> ~/.bashrc
_broker_paths() {
    local path
    compopt -o filenames 2>/dev/null
    while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen "$1" -- "$2")
}
_broker() {
    local line current="${COMP_WORDS[COMP_CWORD]}"
    [[ $current == = ]] && current=
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) _broker_paths -f "$current" ;;
            :directories) _broker_paths -d "$current" ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${1/#\~\//$HOME/}" complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _broker broker
"""

_ZSH = r"""#compdef broker
# Completion of broker for zsh. To have it in every shell:
#   echo 'eval "$(broker completion zsh)"' >> ~/.zshrc
_broker() {
    local line
    local -a found
    for line in "${(@f)$(${~words[1]} complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) _files ;;
            :directories) _files -/ ;;
            *$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            *) found+=("${line//:/\\:}") ;;
        esac
    done
    (( ${#found} )) && _describe -t values 'broker' found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _broker broker
"""

_FISH = r"""# Completion of broker for fish. To have it in every shell:
#   broker completion fish > ~/.config/fish/completions/broker.fish
function __broker_complete
    set -l current (commandline -ct)
    for line in (broker complete fish (commandline -opc)[2..-1] $current 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path $current
            case :directories
                __fish_complete_directories $current
            case '*'
                echo $line
        end
    end
end
complete -c broker -e
complete -c broker -f -a '(__broker_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

EXAMPLES = """\
eval "$(broker completion bash)"  # in this bash alone; put it into ~/.bashrc for every one
eval "$(broker completion zsh)"  # the same for zsh and ~/.zshrc
broker completion fish > ~/.config/fish/completions/broker.fish  # fish looks there by itself
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "Instances are offered by the names of a few minutes ago; without the service, none are."
    parser.add_argument("shell", metavar="SHELL", choices=sorted(SCRIPTS), help="bash, fish or zsh")
    guide(parser, EXAMPLES, see="broker ls")


def run(arguments: Namespace) -> int:
    """Print the script."""
    sys.stdout.write(SCRIPTS[arguments.shell])
    return Exit.OK
