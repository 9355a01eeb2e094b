# Who gets resources: an enclave that the attestation policy affirms in everything, and nobody else.
#
#   input  the claims of the attestation token
#   data   {"plugin": "resource", "resource-path": [repository, type, tag], "query": {...}}
#
# Trustee's own default gives everything to every genuine enclave, whatever runs in it.
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	count(input.submods) > 0
	every submodule in input.submods {
		submodule["ear.status"] == "affirming"
	}
}
