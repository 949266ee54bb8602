package main

/*
#include "shim.h"
*/
import "C"

import (
	"errors"
	"strings"

	"netmon/core/nvlink"
)

// nvmlLibrary is the NVIDIA library of this process.
type nvmlLibrary struct{ gpus [nvlink.MostGPUs]C.netmon_gpu }

// openNVML opens the NVIDIA library.
// Errors: a sentence, where there is none or it refuses.
func openNVML() (nvlink.Library, error) {
	var reason C.netmon_reason
	if C.netmon_nvml_open(&reason) == 0 {
		return nil, errors.New(reasonText(&reason))
	}
	return &nvmlLibrary{}, nil
}

// Read implements nvlink.Library.
func (l *nvmlLibrary) Read() ([]nvlink.GPU, error) {
	var reason C.netmon_reason
	found := C.netmon_nvml_read(&l.gpus[0], nvlink.MostGPUs, &reason)
	if found < 0 {
		return nil, errors.New(reasonText(&reason))
	}
	gpus := make([]nvlink.GPU, found)
	for i := range gpus {
		gpu := &l.gpus[i]
		gpus[i] = nvlink.GPU{
			Index: int(gpu.index), UUID: strings.ToValidUTF8(C.GoString(&gpu.uuid[0]), "?"), LinksActive: int(gpu.links_active),
			ReceiveKiB: uint64(gpu.receive_kib), TransmitKiB: uint64(gpu.transmit_kib), CountersMissing: reasonText(&gpu.no_data),
		}
	}
	return gpus, nil
}

func reasonText(reason *C.netmon_reason) string {
	return strings.ToValidUTF8(C.GoString(&reason.text[0]), "?")
}
