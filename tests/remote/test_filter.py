"""What a machine's own firewall does with a new connection, by its rules as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "hybridmesh" / "remote" / "filter.sh"


def verdict(
    function: str,
    chain: str,
    port: int,
    rules: str,
    interface: str = "eth0",
    *,
    family: str = "ip",
    redirected: bool = False,
) -> str:
    kind = family if function == "nft_verdict" else ""
    done = subprocess.run(
        ["sh", "-euc", f". {SCRIPT}; {function} {chain} {port} {interface} {kind} {'1' * redirected}"],
        input=rules,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def iptables(rules: str, policy: str = "ACCEPT", port: int = 8080, chain: str = "INPUT") -> str:
    head = f"*nat\n:INPUT DROP [0:0]\n-A INPUT -j DROP\nCOMMIT\n*filter\n:INPUT {policy} [5:300]\n:FORWARD DROP [0:0]\n"
    text = f"{head}:OUTPUT {policy} [0:0]\n{rules}COMMIT\n# Completed\n"
    return verdict("iptables_verdict", chain, port, text)


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ("", "ACCEPT", "ACCEPT"),
        ("", "DROP", "DROP"),
        ("-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT -p tcp -m tcp --dport 8081 -j ACCEPT\n", "DROP", "DROP"),
        ("-A INPUT -p tcp -m tcp --dport 8000:9000 -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT -p tcp -m multiport --dports 22,80,8000:8080 -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT\n", "DROP", "DROP"),
        ("-A INPUT -p tcp -m tcp ! --dport 8080 -j REJECT --reject-with tcp-reset\n", "ACCEPT", "ACCEPT"),
        ("-A INPUT -p tcp -m tcp ! --dport 22 -j REJECT --reject-with tcp-reset\n", "ACCEPT", "REJECT"),
        ("-A INPUT -p udp -m udp --dport 8080 -j DROP\n", "ACCEPT", "ACCEPT"),
        ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j DROP\n", "ACCEPT", "DROP"),
        ("-A INPUT -m state --state NEW -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT -i lo -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n", "ACCEPT", "REJECT"),
        ("-A INPUT -i eth+ -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT ! -i eth0 -j DROP\n", "ACCEPT", "ACCEPT"),
        # An address or a rate cannot be judged: such a rule may let pass, and is never taken for one that drops.
        ("-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 8080 -j ACCEPT\n", "DROP", "ACCEPT"),
        ("-A INPUT -s 203.0.113.0/24 -j DROP\n", "ACCEPT", "ACCEPT"),
        ("-A INPUT -p tcp -m connlimit --connlimit-above 100 -j DROP\n", "ACCEPT", "ACCEPT"),
        ('-A INPUT -p tcp -m tcp --dport 8080 -m comment --comment "no -j ACCEPT here" -j DROP\n', "ACCEPT", "DROP"),
        ("-A INPUT -j LOG --log-prefix x\n-A INPUT -p tcp -j DROP\n", "ACCEPT", "DROP"),
        (":mine - [0:0]\n-A INPUT -j mine\n-A mine -p tcp -m tcp --dport 8080 -j ACCEPT\n", "DROP", "ACCEPT"),
        (":mine - [0:0]\n-A INPUT -j mine\n-A mine -p tcp -j RETURN\n-A mine -j ACCEPT\n", "DROP", "DROP"),
        (":mine - [0:0]\n-A INPUT -p udp -j mine\n-A mine -j DROP\n", "ACCEPT", "ACCEPT"),
        (":mine - [0:0]\n-A INPUT -s 10.0.0.1/32 -j mine\n-A mine -j DROP\n", "ACCEPT", "ACCEPT"),
        (":mine - [0:0]\n-A INPUT -j mine\n-A mine -j mine\n", "ACCEPT", "ACCEPT"),
        # ufw, as it writes them
        (
            ":ufw-before-input - [0:0]\n:ufw-user-input - [0:0]\n:ufw-not-local - [0:0]\n"
            "-A INPUT -j ufw-before-input\n"
            "-A ufw-before-input -i lo -j ACCEPT\n"
            "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
            "-A ufw-before-input -m conntrack --ctstate INVALID -j DROP\n"
            "-A ufw-before-input -j ufw-not-local\n"
            "-A ufw-before-input -j ufw-user-input\n"
            "-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN\n"
            "-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG\n"
            "-A ufw-not-local -j DROP\n"
            "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n",
            "DROP",
            "DROP",
        ),
        # What may go back to the caller is not dropped for sure; what goes back from the first chain has its policy.
        (
            ":mine - [0:0]\n-A INPUT -j mine\n-A INPUT -p tcp -j ACCEPT\n-A mine -s 10.0.0.1/32 -j RETURN\n"
            "-A mine -j DROP\n",
            "DROP",
            "ACCEPT",
        ),
        ("-A INPUT -p tcp -m tcp --dport 8080 -j RETURN\n-A INPUT -j ACCEPT\n", "DROP", "DROP"),
        (":mine - [0:0]\n-A INPUT -g mine\n-A INPUT -j ACCEPT\n-A mine -p udp -j ACCEPT\n", "DROP", "DROP"),
    ],
)
def test_iptables_rules_are_followed(rules: str, policy: str, expected: str) -> None:
    declared = "".join(line + "\n" for line in rules.splitlines() if line.startswith(":"))
    rest = "".join(line + "\n" for line in rules.splitlines() if not line.startswith(":"))
    assert iptables(declared + rest, policy) == expected


def test_a_rule_may_know_a_redirected_connection() -> None:
    rules = (
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT\n"
        "-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT\nCOMMIT\n"
    )
    assert verdict("iptables_verdict", "INPUT", 15006, rules) == "DROP"
    assert verdict("iptables_verdict", "INPUT", 15006, rules, redirected=True) == "ACCEPT"


def test_the_way_out_is_another_chain() -> None:
    assert iptables("-A OUTPUT -p tcp -m tcp --dport 15012 -j DROP\n", port=15012, chain="OUTPUT") == "DROP"
    assert iptables("-A OUTPUT -o eth1 -p tcp -m tcp --dport 15012 -j DROP\n", port=15012, chain="OUTPUT") == "ACCEPT"
    assert iptables("-A INPUT -j DROP\n", port=15012, chain="OUTPUT") == "ACCEPT"


def test_a_machine_without_rules_lets_everything_in() -> None:
    assert verdict("iptables_verdict", "INPUT", 8080, "") == "ACCEPT"
    assert verdict("nft_verdict", "input", 8080, "") == "ACCEPT"


def nft(rules: str, policy: str = "accept", port: int = 8080, hook: str = "input", family: str = "ip") -> str:
    text = (
        "table inet filter {\n"
        "\tchain in {\n\t\ttype filter hook input priority filter; policy "
        f"{policy};\n{rules}\t}}\n"
        "\tchain mine {\n\t\ttcp dport 8080 accept\n\t}\n"
        "\tchain out {\n\t\ttype filter hook output priority filter; policy accept;\n\t\ttcp dport 15012 drop\n\t}\n"
        "}\n"
        "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n"
        "table ip nat {\n\tchain IN {\n\t\ttype nat hook input priority 100; policy drop;\n\t}\n}\n"
    )
    return verdict("nft_verdict", hook, port, text, family=family)


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ("", "accept", "ACCEPT"),
        ("", "drop", "DROP"),
        ("\t\ttcp dport 8080 accept\n", "drop", "ACCEPT"),
        ("\t\ttcp dport { 22, 80, 8000-8080 } accept\n", "drop", "ACCEPT"),
        ("\t\ttcp dport { 22, 80 } counter packets 0 bytes 0 accept\n", "drop", "DROP"),
        ("\t\ttcp dport != 22 reject with tcp reset\n", "accept", "REJECT"),
        ("\t\tudp dport 8080 drop\n", "accept", "ACCEPT"),
        ("\t\tct state established,related accept\n\t\tcounter packets 1 bytes 2 drop\n", "accept", "DROP"),
        ("\t\tct state { established, related } accept\n", "drop", "DROP"),
        ("\t\tct state new accept\n", "drop", "ACCEPT"),
        ("\t\tct state vmap { established : accept, related : accept, invalid : drop }\n", "drop", "DROP"),
        ('\t\tiif "lo" accept\n\t\treject with icmpx admin-prohibited\n', "accept", "REJECT"),
        ('\t\tiifname { "lo", "eth0" } accept\n', "drop", "ACCEPT"),
        ('\t\tiifname != "eth0" drop\n', "accept", "ACCEPT"),
        ("\t\tip saddr 10.0.0.0/8 tcp dport 8080 accept\n", "drop", "ACCEPT"),
        ("\t\tip saddr 203.0.113.0/24 drop\n", "accept", "ACCEPT"),
        ("\t\tmeta l4proto { icmp, ipv6-icmp } accept\n", "drop", "DROP"),
        ("\t\tmeta l4proto tcp accept\n", "drop", "ACCEPT"),
        ("\t\ticmp type echo-request accept\n", "drop", "DROP"),
        ("\t\tlimit rate 5/second accept\n", "drop", "ACCEPT"),
        ('\t\tlog prefix "in: " drop\n', "accept", "DROP"),
        ("\t\tjump mine\n", "drop", "ACCEPT"),
        ("\t\tjump nowhere\n", "drop", "DROP"),
        ("\t\tip saddr 10.0.0.1 jump mine\n", "drop", "ACCEPT"),
        ("\t\tip saddr 10.0.0.1 return\n\t\tdrop\n", "accept", "ACCEPT"),
        ("\t\ttcp dport 8080 return\n\t\taccept\n", "drop", "DROP"),
        ("\t\tgoto nowhere\n\t\taccept\n", "drop", "DROP"),
        ('\t\tiifname "eth*" tcp dport 8080 accept\n', "drop", "ACCEPT"),
        ('\t\tiifname "wlan*" tcp dport 8080 accept\n', "drop", "DROP"),
        ("\t\tct state vmap { established : accept, new : jump mine }\n", "drop", "ACCEPT"),
        ("\t\tct state vmap { established : accept, new : jump nowhere }\n", "drop", "DROP"),
        ("\t\tct state vmap { established : accept, new : drop }\n", "accept", "DROP"),
        ('\t\tiifname vmap { "lo" : accept, "eth0" : goto mine }\n', "drop", "ACCEPT"),
        ('\t\tiifname vmap { "lo" : accept, "eth1" : jump mine }\n', "drop", "DROP"),
        ("\t\ttcp dport vmap { 22 : accept, 8000-8100 : accept }\n", "drop", "ACCEPT"),
        ("\t\ttcp dport vmap { 22 : accept, 8080 : reject }\n", "accept", "REJECT"),
        ("\t\tmeta l4proto vmap { tcp : jump mine, udp : drop }\n", "drop", "ACCEPT"),
        # A named set or map, and what is told by several things at once, cannot be judged here.
        ("\t\ttcp dport @open_ports accept\n", "drop", "ACCEPT"),
        ("\t\ttcp dport @closed_ports drop\n", "accept", "ACCEPT"),
        ("\t\tiifname @lan accept\n", "drop", "ACCEPT"),
        ("\t\ttcp dport vmap @ports\n", "drop", "ACCEPT"),
        ('\t\tiifname . tcp dport { "eth0" . 8080 } accept\n', "drop", "ACCEPT"),
    ],
)
def test_nftables_rules_are_followed(rules: str, policy: str, expected: str) -> None:
    assert nft(rules, policy) == expected


FIREWALLD = """table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_INPUT_ZONES {
		goto filter_IN_public
	}
	chain filter_IN_public {
		jump filter_IN_public_deny
		jump filter_IN_public_allow
		meta l4proto { icmp, ipv6-icmp } accept
		reject with icmpx admin-prohibited
	}
	chain filter_IN_public_deny {
	}
	chain filter_IN_public_allow {
		tcp dport 22 accept
		ip6 daddr fe80::/64 udp dport 546 accept
	}
}
"""
"""What `nft list ruleset` shows of firewalld 1.3.3 as installed, cut to what is for incoming connections."""


def test_firewalld_lets_in_what_its_zone_lists() -> None:
    assert verdict("nft_verdict", "input", 22, FIREWALLD) == "ACCEPT"
    assert verdict("nft_verdict", "input", 8080, FIREWALLD) == "REJECT"
    assert verdict("nft_verdict", "input", 15006, FIREWALLD, redirected=True) == "ACCEPT"
    opened = FIREWALLD.replace("tcp dport 22 accept", "tcp dport 22 accept\n\t\ttcp dport 8080 accept")
    assert verdict("nft_verdict", "input", 8080, opened) == "ACCEPT"


def test_every_nftables_chain_counts_and_those_of_iptables_are_left_to_iptables() -> None:
    assert nft("", port=15012, hook="output") == "DROP"
    assert nft("", port=15013, hook="output") == "ACCEPT"


@pytest.mark.parametrize(
    ("rules", "ip", "ip6"),
    [
        ("\t\tip saddr 10.0.0.0/8 accept\n", "ACCEPT", "DROP"),
        ("\t\tip6 saddr fd00::/8 accept\n", "DROP", "ACCEPT"),
        ("\t\tip protocol tcp accept\n", "ACCEPT", "DROP"),
        ("\t\tmeta nfproto ipv6 tcp dport 8080 accept\n", "DROP", "ACCEPT"),
        ("\t\tmeta nfproto != ipv6 accept\n", "ACCEPT", "DROP"),
        ("\t\tmeta nfproto vmap { ipv4 : jump mine, ipv6 : jump nowhere }\n", "ACCEPT", "DROP"),
        ("\t\tmeta protocol ip tcp dport 8080 accept\n", "ACCEPT", "DROP"),
        ("\t\tmeta protocol { ip, ip6 } tcp dport 8080 accept\n", "ACCEPT", "ACCEPT"),
        ("\t\tmeta protocol != ip6 tcp dport 8080 accept\n", "ACCEPT", "DROP"),
        ("\t\tmeta protocol vmap { ip : jump nowhere, ip6 : jump mine }\n", "DROP", "ACCEPT"),
    ],
)
def test_a_rule_for_one_family_of_addresses_says_nothing_of_the_other(rules: str, ip: str, ip6: str) -> None:
    assert (nft(rules, "drop"), nft(rules, "drop", family="ip6")) == (ip, ip6)


def test_a_table_of_the_other_family_is_left_out() -> None:
    table = "table ip mine {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n"
    assert verdict("nft_verdict", "input", 8080, table) == "DROP"
    assert verdict("nft_verdict", "input", 8080, table, family="ip6") == "ACCEPT"


@pytest.mark.parametrize(("address", "tool"), [("192.0.2.11", "iptables"), ("2001:db8::11", "ip6tables")])
def test_an_address_is_judged_by_the_rules_of_its_family(tmp_path: Path, address: str, tool: str) -> None:
    for name in ("iptables", "ip6tables"):
        for variant in ("", "-nft", "-legacy"):
            policy = "DROP" if name == tool else "ACCEPT"
            save = tmp_path / f"{name}{variant}-save"
            save.write_text(f"#!/bin/sh\nprintf '*filter\\n:INPUT {policy} [0:0]\\nCOMMIT\\n'\n")
            save.chmod(0o755)
    call = "systemctl() { return 3; }; ufw() { :; }; nft() { :; }; dropped_by input 8080 eth0"
    for asked, said in ((address, f"{tool} (DROP)\n"), ("2001:db8::1" if "." in address else "192.0.2.1", "")):
        done = subprocess.run(
            ["sh", "-euc", f"PATH={tmp_path}:$PATH; . {SCRIPT}; {call} {asked}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert done.stdout == said


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("firewalld (REJECT)", "firewall-cmd --permanent --add-port=8080/tcp"),
        ("ufw (DROP)", "ufw allow 8080/tcp"),
        ("iptables (DROP)", "iptables -I INPUT -p tcp --dport 8080 -j ACCEPT"),
        ("ip6tables (DROP)", "ip6tables -I INPUT -p tcp --dport 8080 -j ACCEPT"),
        ("nftables (DROP)", "tcp dport 8080 accept"),
    ],
)
def test_the_remedy_is_that_of_whoever_made_the_rules(name: str, remedy: str) -> None:
    done = subprocess.run(
        ["sh", "-euc", f". {SCRIPT}; how_to_open '{name}' 8080"], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.startswith(remedy)


# ---------------------------------------------------------------- what somebody else leads elsewhere

DOCKER = (
    "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n"
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
    "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n"
    "-A DOCKER -i docker0 -j RETURN\n{rule}\nCOMMIT\n"
)
TO = "-j DNAT --to-destination 172.17.0.2:80"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (f"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 {TO}", "172.17.0.2:80 by chain DOCKER"),
        (f"-A DOCKER -d 192.0.2.11/32 ! -i docker0 -p tcp -m tcp --dport 8080 {TO}", "172.17.0.2:80 by chain DOCKER"),
        (f"-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8080 {TO}", ""),
        (f"-A DOCKER ! -d 192.0.2.11/32 -p tcp -m tcp --dport 8080 {TO}", ""),
        (f"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 {TO}", ""),
        (f"-A DOCKER ! -i docker0 -p udp -m udp --dport 8080 {TO}", ""),
        (f"-A DOCKER -i docker0 -p tcp -m tcp --dport 8080 {TO}", ""),
        (f"-A DOCKER -s 198.51.100.0/24 -p tcp -m tcp --dport 8080 {TO}", ""),
        (f"-A DOCKER -p tcp {TO}", ""),
        ("-A DOCKER -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK", ""),
        (
            '-A PREROUTING -j CNI-DN-1\n-A CNI-DN-1 -p tcp -m comment --comment "dnat name: --dport 1" -m tcp '
            "--dport 8000:8090 -j DNAT --to-destination 10.88.0.2:8080",
            "10.88.0.2:8080 by chain CNI-DN-1",
        ),
        (
            "-A PREROUTING -p tcp -m multiport --dports 80,8080 -j REDIRECT --to-ports 3000",
            "port 3000 by chain PREROUTING",
        ),
        ("-A OUTPUT -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3000", ""),
        ("-A OUTPUT_direct -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3000", ""),
        ("-A OUTPUT -j REDSOCKS\n-A REDSOCKS -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3000", ""),
        ("-A PREROUTING ! -d 192.0.2.0/24 -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3128", ""),
        ("-A PREROUTING ! -i eth+ -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3128", ""),
        (
            "-A PREROUTING -p tcp -j ISTIO_INBOUND\n-A ISTIO_INBOUND -p tcp -m tcp --dport 8080 -j ISTIO_IN_REDIRECT\n"
            "-A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 3000",
            "",
        ),
    ],
)
def test_a_port_that_somebody_else_leads_elsewhere_is_seen(rule: str, said: str) -> None:
    done = subprocess.run(
        ["sh", "-euc", f". {SCRIPT}; detour_in 8080 eth0 192.0.2.11"],
        input=DOCKER.format(rule=rule),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.strip() == said


@pytest.mark.parametrize(("address", "tool"), [("192.0.2.11", "iptables"), ("2001:db8::11", "ip6tables")])
def test_a_detour_is_looked_for_among_the_rules_of_the_address_s_family(
    tmp_path: Path, address: str, tool: str
) -> None:
    for name in ("iptables", "ip6tables"):
        for variant in ("", "-nft", "-legacy"):
            rule = f"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 {TO}" if name + variant == f"{tool}-nft" else ""
            save = tmp_path / f"{name}{variant}-save"
            text = DOCKER.format(rule=rule)
            save.write_text(f"#!/bin/sh\n[ \"$1 $2\" = '-t nat' ] || exit 1\ncat <<'END'\n{text}END\n")
            save.chmod(0o755)
    done = subprocess.run(
        ["sh", "-euc", f"PATH={tmp_path}:$PATH; . {SCRIPT}; detour 8080 eth0 {address}; detour 8081 eth0 {address}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "172.17.0.2:80 by chain DOCKER\n"
