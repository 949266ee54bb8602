// Package nettest makes hosts for the tests of other packages: network namespaces, links between them, processes without rights.
//
// Only tests import it. Nothing leaves its hosts: they have no interface but those that a test makes. Needs root, or the right to
// make namespaces: without it tests are skipped, with the reason, or fail where NETMON_REQUIRE_NAMESPACES is 1, as in CI.
package nettest
