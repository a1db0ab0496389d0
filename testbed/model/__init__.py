"""Pure, frozen data: topology, addresses, Services, endpoints, and the oracle. Touches no system."""
