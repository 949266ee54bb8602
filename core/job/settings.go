package job

import "os"

// The environment variables by which people choose what NCCL, gloo, TensorPipe, UCX and libfabric send over. NCCL also reads
// /etc/nccl.conf and ~/.nccl.conf, which are not looked at.
const (
	NCCLIBDisable      = "NCCL_IB_DISABLE"
	NCCLIBHCA          = "NCCL_IB_HCA"
	NCCLNet            = "NCCL_NET"
	NCCLSocketIfname   = "NCCL_SOCKET_IFNAME"
	GlooSocketIfname   = "GLOO_SOCKET_IFNAME"
	TPSocketIfname     = "TP_SOCKET_IFNAME"
	UCXNetDevices      = "UCX_NET_DEVICES"
	LibfabricProviders = "FI_PROVIDER"
)

// SettingNames lists these variables. None of them holds a secret, and no other is read. Python's _environment.py hands them over.
func SettingNames() []string {
	return []string{NCCLIBDisable, NCCLIBHCA, NCCLNet, NCCLSocketIfname, GlooSocketIfname, TPSocketIfname, UCXNetDevices,
		LibfabricProviders}
}

// Settings are those of the variables that are set, and not empty.
type Settings map[string]string

// SettingsFromProcess reads the environment that this process was started with.
func SettingsFromProcess() Settings { return SettingsFrom(os.LookupEnv) }

// SettingsFrom reads the variables.
func SettingsFrom(lookup Lookup) Settings {
	r := reader{lookup: lookup}
	settings := make(Settings)
	for _, name := range SettingNames() {
		if value, found := r.get(name); found {
			settings[name] = value
		}
	}
	return settings
}
