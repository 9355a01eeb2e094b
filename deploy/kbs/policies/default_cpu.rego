# Judges SGX evidence. Reference values, all of them the owner's decision:
#
#   sgx_mr_enclave   list of measurements, 64 lower-case hex digits: the enclaves that may get anything
#   sgx_config_id    list of CONFIGIDs, 128 hex digits (a SHA-256 of init-data, then zeros); absent: any
#   sgx_tcb_status   list of Intel's words; absent: only "UpToDate"
#   allow_simulated  true: quotes under a simulated root may be good too. They prove nothing about hardware.
#
# The numbers are AR4SI's (draft-ietf-rats-ar4si section 2.3). The same file serves Trustee, which knows no simulated
# root: there the claim is absent and the enclave genuine.
package policy

import rego.v1

# 33: executables that are not recognized. 97: hardware that is not recognized. 36: configuration not known.
default executables := 33

default hardware := 97

default configuration := 36

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": 0,
	"instance-identity": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

# 3: only a recognized set of approved executables has been loaded.
executables := 3 if {
	input.sgx.body.mr_enclave in query_reference_value("sgx_mr_enclave")
}

# 2: the configuration is known and approved.
configuration := 2 if {
	debug_is_clear
	configuration_is_listed
}

# The flags are little endian: DEBUG (0x02) is in the second hex digit.
debug_is_clear if {
	substring(input.sgx.body["attributes.flags"], 1, 1) in {"0", "1", "4", "5", "8", "9", "c", "d"}
}

configuration_is_listed if query_reference_value("sgx_config_id") == null

configuration_is_listed if {
	input.sgx.body.config_id in query_reference_value("sgx_config_id")
}

# 2: hardware and firmware passed verification and are supported.
hardware := 2 if {
	input.sgx.collateral_expiration_status == "0"
	input.sgx.tcb_status in tcb_allowed
	root_allowed
}

default tcb_allowed := ["UpToDate"]

tcb_allowed := listed if {
	listed := query_reference_value("sgx_tcb_status")
	listed != null
}

root_allowed if object.get(input.sgx, "simulated", false) == false

root_allowed if query_reference_value("allow_simulated") == true
