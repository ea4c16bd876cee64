# shellcheck shell=sh
# Whether this machine's own firewall lets a new TCP connection pass: iptables (what ufw and firewalld's iptables make
# of their rules, too) and nftables (firewalld's other way). Rules are followed as the kernel would, but for conditions
# that cannot be judged here (addresses, rates, owners): such a rule may let pass, and is never taken for one that
# drops. Sourced by preflight.sh.

# For awk: whether a list of iptables, of ports and of spans of them, has `port`
HAS_PORT='
    function has_port(list,    n, i, parts, ends) {
        n = split(list, parts, ",")
        for (i = 1; i <= n; i++) {
            if (split(parts[i], ends, ":") == 2 ? (port + 0 >= ends[1] + 0 && port + 0 <= ends[2] + 0) : parts[i] == port)
                return 1
        }
        return 0
    }'

# iptables_verdict CHAIN PORT INTERFACE [1] <iptables-save: what table filter does: ACCEPT, DROP or REJECT; 1: with a
# connection that a rule of table nat has redirected to PORT
iptables_verdict() {
    awk -v start="$1" -v port="$2" -v interface="$3" -v redirected="${4-}" "$HAS_PORT"'
        function same_interface(pattern) {
            if (sub(/\+$/, "", pattern)) return index(interface, pattern) == 1
            return pattern == interface
        }
        # A rule that may lead back to the caller takes nothing from one that lets pass, and all from one that drops
        function unless(back, chain, verdict) { return back && verdict != "ACCEPT" ? policy[chain] : verdict }
        function walk(chain, depth,    i, n, t, words, hit, sure, not, way, target, verdict, back) {
            if (depth > 20) return ""
            for (i = 1; i <= count[chain]; i++) {
                n = split(rules[chain, i], words, " ")
                hit = sure = 1; not = 0; target = ""
                for (t = 3; t <= n; t++) {
                    if (words[t] == "!") { not = 1; continue }
                    if (words[t] == "-p") { t++; if ((words[t] ~ /^(tcp|6|all|0)$/) == not) hit = 0 }
                    else if (words[t] == "-i" || words[t] == "-o") { t++; if (same_interface(words[t]) == not) hit = 0 }
                    else if (words[t] == "-m") t++
                    else if (words[t] ~ /^--(dport|dports|destination-port|destination-ports)$/) {
                        t++; if (has_port(words[t]) == not) hit = 0
                    }
                    else if (words[t] == "--ctstate" || words[t] == "--state") {
                        t++; if ((words[t] ~ /NEW/ || redirected && words[t] ~ /DNAT/) == not) hit = 0
                    }
                    else if (words[t] == "--tcp-flags") { t += 2; if (words[t] != "SYN") sure = 0; else if (not) hit = 0 }
                    else if (words[t] == "--syn") { if (not) hit = 0 }
                    else if (words[t] == "--comment") {
                        t++
                        if (words[t] ~ /^"/) while (words[t] !~ /[^\\]"$/ && t < n) t++
                    }
                    else if (words[t] == "-j" || words[t] == "-g") { way = words[t]; target = words[++t]; break }
                    else if (words[t] ~ /^-/) { sure = 0; while (t < n && words[t + 1] !~ /^(-|!)/) t++ }
                    not = 0
                }
                if (!hit) continue
                if (target == "ACCEPT") return target
                if (target == "DROP" || target == "REJECT") { if (sure) return unless(back, chain, target); continue }
                if (target == "RETURN") { if (sure) return policy[chain]; back = 1; continue }
                if (target in count) {
                    verdict = walk(target, depth + 1)
                    if (verdict == "ACCEPT" || verdict != "" && sure) return unless(back, chain, verdict)
                    if (way == "-g" && sure) return policy[chain]
                }
            }
            return policy[chain]
        }
        /^\*/ { filter = $0 == "*filter" }
        filter && /^:/ { name = substr($1, 2); count[name] += 0; policy[name] = $2 == "-" ? "" : $2 }
        filter && /^-A / { rules[$2, ++count[$2]] = $0 }
        END { print start in count ? walk(start, 0) : "ACCEPT" }'
}

# nft_verdict HOOK PORT INTERFACE ip|ip6 [1] <nft list ruleset: the worst of all chains at that hook that see this kind
# of address. Tables that iptables keeps there are left to iptables.
nft_verdict() {
    awk -v hook="$1" -v port="$2" -v interface="$3" -v family="$4" -v redirected="${5-}" '
        # The words of a set or of one value, from words[at] on; leaves the place of the last one in `at`
        function values(words, n,    text) {
            at++
            if (words[at] != "{") { text = words[at]; while (text ~ /,$/ && at < n) text = text words[++at]; return "," text "," }
            while (++at <= n && words[at] != "}") text = text words[at]
            return "," text ","
        }
        function has_port(list,    n, i, parts, ends) {
            n = split(list, parts, ",")
            for (i = 1; i <= n; i++) {
                if (split(parts[i], ends, "-") == 2 ? (port + 0 >= ends[1] + 0 && port + 0 <= ends[2] + 0) : parts[i] == port)
                    return 1
            }
            return 0
        }
        function has_interface(list,    n, i, names) {
            n = split(list, names, ",")
            for (i = 1; i <= n; i++) {
                if (sub(/\*$/, "", names[i]) ? index(interface, names[i]) == 1 : names[i] == interface) return 1
            }
            return 0
        }
        function matches(asked, list) {
            if (asked == "state") return list ~ /,new,/
            if (asked == "protocol") return list ~ /,(tcp|6),/
            if (asked == "family") return list ~ (family == "ip6" ? ",(ipv6|ip6)," : ",(ipv4|ip),")
            gsub(/"/, "", list)
            return asked == "port" ? has_port(list) : has_interface(list)
        }
        # The verdict that a map has for this connection: its word is left in `word`, its chain in `target`
        function mapped(asked, list,    n, i, entries, parts) {
            if (list ~ /@/) { word = "accept"; return 1 }
            n = split(list, entries, ",")
            for (i = 1; i <= n; i++) {
                if (split(entries[i], parts, ":") != 2 || !matches(asked, "," parts[1] ",")) continue
                word = parts[2]; target = ""
                if (match(word, /^(jump|goto)/)) { target = substr(word, 5); word = substr(word, 1, 4) }
                return 1
            }
            return 0
        }
        function unless(back, chain, verdict) { return back && verdict != "ACCEPT" ? policy[chain] : verdict }
        # The words `word` and `target` are shared by all calls: each rule sets them anew
        function walk(chain, depth,    i, n, t, words, hit, sure, not, list, asked, verdict, back) {
            if (depth > 20) return ""
            for (i = 1; i <= count[chain]; i++) {
                n = split(rules[chain, i], words, " ")
                hit = sure = 1
                for (t = 1; t <= n && hit; t++) {
                    word = words[t]; target = words[t + 1]
                    if (word ~ /^(accept|drop|reject|return|queue)$/ || word == "jump" || word == "goto") break
                    if (word == "counter") { if (words[t + 1] == "packets") t += 4; continue }
                    if (word == "log" || word == "comment") {
                        while (t < n && words[t + 1] !~ /^(accept|drop|reject|return|jump|goto|counter)$/) t++
                        continue
                    }
                    not = 0; asked = ""
                    if (word == other) { hit = 0; break }
                    if (word ~ /^(iif|iifname|oif|oifname)$/) asked = "interface"
                    else if (word == "meta" && words[t + 1] ~ /^(nfproto|protocol)$/) { asked = "family"; t++ }
                    else if (word == "ct" && words[t + 1] == "state") { asked = "state"; t++ }
                    else if ((word == "tcp" || word == "th") && words[t + 1] == "dport") { asked = "port"; t++ }
                    else if (word == "meta" && words[t + 1] == "l4proto" || word == "ip" && words[t + 1] == "protocol" || \
                        word == "ip6" && words[t + 1] == "nexthdr") { asked = "protocol"; t++ }
                    if (asked != "" && words[t + 1] == "vmap") {
                        at = t + 1; list = values(words, n); t = at
                        hit = mapped(asked, list)
                        break
                    }
                    if (asked != "" && words[t + 1] != ".") {
                        if (words[t + 1] == "!=") { not = 1; t++ }
                        at = t; list = values(words, n); t = at
                        if (list ~ /@/) sure = 0 # a named set: it may have it
                        else if (matches(asked, list) == not) hit = 0
                    } else if (word == "ct" && words[t + 1] == "status" && words[t + 2] == "dnat") {
                        t += 2
                        if (!redirected) hit = 0
                    } else if (word ~ /^(udp|icmp|icmpv6|sctp|igmp)$/) hit = 0
                    else if (word == "meta") continue
                    else if (asked != "" || word ~ /^(fib|ip|ip6|limit|tcp|ct|ether|@|rt)$/) {
                        # A condition that cannot be judged here, up to what is done or asked next
                        sure = 0
                        next_one = "^(accept|drop|reject|return|queue|jump|goto|counter|log" \
                            (words[t + 1] == "." ? "" : "|tcp|udp|ct|meta|iif|iifname|oif|oifname") ")$"
                        while (t < n && words[t + 1] !~ next_one) t++
                    } else sure = 0
                }
                if (!hit || t > n) continue
                if (word == "accept") return "ACCEPT"
                if (word == "drop" || word == "reject") { if (sure) return unless(back, chain, toupper(word)); continue }
                if (word == "return") { if (sure) return policy[chain]; back = 1; continue }
                if (word == "jump" || word == "goto") {
                    asked = word
                    verdict = walk(table SUBSEP target, depth + 1)
                    if (verdict == "ACCEPT" || verdict != "" && sure) return unless(back, chain, verdict)
                    if (asked == "goto" && sure) return policy[chain]
                }
            }
            return policy[chain]
        }
        BEGIN { other = family == "ip6" ? "ip" : "ip6" }
        $1 == "table" { table = $2 " " $3; next }
        $1 == "chain" { chain = table SUBSEP $2; of[chain] = table; count[chain] += 0; next }
        $1 == "type" {
            for (i = 1; i <= NF; i++) if ($i == "hook" && $(i + 1) == hook && $2 == "filter") base[chain] = 1
            policy[chain] = /policy drop/ ? "DROP" : "ACCEPT"
            next
        }
        $1 == "}" { chain = ""; next }
        chain != "" { rules[chain, ++count[chain]] = $0 }
        END {
            worst = "ACCEPT"
            for (name in base) {
                table = of[name]
                if (table == "ip filter" || table == "ip6 filter" || index(table, other " ") == 1) continue
                verdict = walk(name, 0)
                if (verdict != "ACCEPT") worst = verdict
            }
            print worst
        }'
}

# dropped_by HOOK PORT INTERFACE ADDRESS [1]: what of this machine's own drops such a connection; nothing if nothing
# does. Of the address, only whether it is an IPv6 one counts: those have rules of their own.
dropped_by() {
    chain=$(echo "$1" | tr '[:lower:]' '[:upper:]')
    case $4 in
        *:*) family=ip6 ;;
        *) family=ip ;;
    esac
    for tool in "${family}tables" "${family}tables-nft" "${family}tables-legacy"; do
        command -v "$tool-save" >/dev/null || continue
        verdict=$("$tool-save" -t filter 2>/dev/null | iptables_verdict "$chain" "$2" "$3" "${5-}")
        if [ "$verdict" = DROP ] || [ "$verdict" = REJECT ]; then
            echo "$(firewall_name "${family}tables") ($verdict)"
            return
        fi
    done
    command -v nft >/dev/null || return 0
    verdict=$(nft list ruleset 2>/dev/null | nft_verdict "$1" "$2" "$3" "$family" "${5-}")
    case $verdict in DROP | REJECT) echo "$(firewall_name nftables) ($verdict)" ;; esac
}

# detour_in PORT INTERFACE ADDRESS <iptables-save: where somebody else (Docker, Podman) leads new TCP connections to that
# port of this address, and by which chain of table nat; nothing if nobody does. Istio's rule is the last in PREROUTING,
# and sees none of them.
detour_in() {
    awk -v port="$1" -v interface="$2" -v address="$3" "$HAS_PORT"'
        # Whether a rule leads such a connection somewhere; to where is left in `led`
        function leads(rule,    words, n, t, hit, unsure, not) {
            n = split(rule, words, " ")
            for (t = 3; t <= n && words[t] != "-j"; t++) {
                if (words[t] == "!") { not = 1; continue }
                if (words[t] ~ /^--(dport|dports)$/) { t++; hit = has_port(words[t]) != not }
                else if (words[t] == "-i") { t++; if (words[t] ~ /\+$/ || (words[t] == interface) == not) unsure = 1 }
                else if (words[t] == "-d") { t++; if (not || index(words[t], address "/") != 1) unsure = 1 }
                else if (words[t] == "-p") { t++; if ((words[t] == "tcp") == not) unsure = 1 }
                else if (words[t] == "--comment") { t++; if (words[t] ~ /^"/) while (words[t] !~ /[^\\]"$/ && t < n) t++ }
                else if (words[t] ~ /^(-m|--dst-type)$/) t++
                else unsure = 1 # a condition that nobody can judge from here
                not = 0
            }
            led = (words[t + 1] == "REDIRECT" ? "port " : "") words[t + 3]
            return hit && !unsure
        }
        /^\*/ { nat = $0 == "*nat" }
        # On a member the proxy takes what comes that far.
        nat && $1 == "-A" && $2 == "PREROUTING" && taken { next }
        nat && $1 == "-A" && $2 == "PREROUTING" && / -j ISTIO_INBOUND/ { taken = 1; next }
        nat && $1 == "-A" {
            rules[++count] = $0
            of[count] = $2
            if (match($0, / -[jg] [^ ]+/)) to[count] = substr($0, RSTART + 4, RLENGTH - 4)
        }
        END {
            comes["PREROUTING"] = 1
            do {
                more = 0
                for (i = 1; i <= count; i++) if (of[i] in comes && !(to[i] in comes)) comes[to[i]] = more = 1
            } while (more)
            for (i = 1; i <= count; i++) {
                if (!(of[i] in comes) || to[i] !~ /^(DNAT|REDIRECT)$/ || !leads(rules[i])) continue
                print led, "by chain", of[i]
                exit
            }
        }'
}

# detour PORT INTERFACE ADDRESS: the same, by the rules that are here
detour() {
    case $3 in
        *:*) family=ip6 ;;
        *) family=ip ;;
    esac
    for tool in "${family}tables" "${family}tables-nft" "${family}tables-legacy"; do
        command -v "$tool-save" >/dev/null || continue
        led=$("$tool-save" -t nat 2>/dev/null | detour_in "$1" "$2" "$3")
        if [ "$led" ]; then
            echo "$led"
            return
        fi
    done
}

# firewall_name WHAT: who made the rules, as far as one can tell
firewall_name() {
    if systemctl is-active --quiet firewalld 2>/dev/null; then
        echo firewalld
    elif command -v ufw >/dev/null && PYTHONDONTWRITEBYTECODE=1 ufw status 2>/dev/null | grep -q '^Status: active'; then
        echo ufw
    else
        echo "$1"
    fi
}

# how_to_open NAME PORT
how_to_open() {
    case $1 in
        firewalld*) echo "firewall-cmd --permanent --add-port=$2/tcp && firewall-cmd --reload" ;;
        ufw*) echo "ufw allow $2/tcp" ;;
        iptables* | ip6tables*) echo "${1%% *} -I INPUT -p tcp --dport $2 -j ACCEPT, and where your rules are kept" ;;
        *) echo "tcp dport $2 accept, in the chain at hook input" ;;
    esac
}
