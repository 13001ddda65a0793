# Completion of forwarder(8) in fish. tools/completion/table.c explains the table.

function __forwarder_table
    echo "\
@TABLE@
"
end

# The command that the line begins with, or run. After -- comes another program's
# command line.
function __forwarder_mode
    set -l words (commandline -opc)
    if contains -- -- $words
        echo command
    else
        __forwarder_table | string replace -rf '^command\|([^|]*).*' '$1' |
            string match -- "$words[2]"; or echo run
    end
end

# __forwarder_value VALUE BEFORE: what the current word, or what follows = in it,
# can be if it begins with BEFORE.
function __forwarder_value -a value before
    set -q before[1]; or set before ''
    set -l current (commandline -ct | string replace -r '^--?[^=]*=' '')
    set -l rest (string replace -- "$before" '' $current)
    for word in (string split -n ' ' -- $value)
        switch $word
            case FILE PATH
                printf '%s\n' $before(__fish_complete_path $rest)
            case FOLDER
                printf '%s\n' $before(__fish_complete_directories $rest)
            case 'SECTION.KEY=VALUE'
                for line in (__forwarder_table | string match -- 'key|*')
                    set -l fields (string split '|' -- $line)
                    set -l key "$fields[2]="
                    if string match -q -- "$key*" $rest
                        __forwarder_value "$fields[3]" $key
                    else
                        echo $key
                    end
                end
            case '*:*'
                set -l prefix $before(string replace -r ':.*' ':' -- $word)
                if not string match -q -- "$prefix*" $current
                    echo $prefix
                else if string match -q '*:PATH' -- $word
                    __forwarder_value PATH $prefix
                end
            case '*'
                echo $before$word
        end
    end
end

function __forwarder_sockets
    set -l current (commandline -ct)
    set -l sockets {/run,$XDG_RUNTIME_DIR}/forwarder/*/control.sock
    string match -- "$current*" $sockets
    or __fish_complete_path $current
end

function __forwarder_command
    set -l words (commandline -opc) (commandline -ct)
    set -l at (math 1 + (contains -i -- -- $words))
    __fish_complete_subcommand --commandline $words[$at..-1]
end

complete -c forwarder -f
complete -c forwarder -n 'test (__forwarder_mode) = command' \
    -a '(__forwarder_command)'
for line in (__forwarder_table)
    set -l fields (string split '|' -- $line)
    switch "$fields[1]"
        case command
            complete -c forwarder -n 'test (count (commandline -opc)) = 1' \
                -a $fields[2] -d $fields[3]
            complete -c forwarder -n "test (__forwarder_mode) = $fields[2]" \
                -a '(__forwarder_sockets)'
        case option
            set -l option -l (string sub -s 3 -- $fields[4])
            test -z "$fields[3]"
            or set -a option -s (string sub -s 2 -- $fields[3])
            test -z "$fields[5]"
            or set -a option -x -a "(__forwarder_value '$fields[5]')"
            complete -c forwarder -d $fields[6] $option \
                -n "contains (__forwarder_mode) $fields[2]"
    end
end
