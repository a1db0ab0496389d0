"""Real packets: sent in one namespace, captured in others, read with scapy, held against the oracle."""
