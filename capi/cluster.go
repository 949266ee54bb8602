package main

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"netmon/core/cluster"
	"netmon/core/monitor"
)

// A digest always fits into NETMON_DIGEST_BYTES.
var _ [C.NETMON_DIGEST_BYTES]byte = [cluster.MostDigestBytes]byte{}

//export goNetmonDigest
func goNetmonDigest(
	id C.uint64_t, buffer unsafe.Pointer, capacity C.uint32_t, lengthOut *C.uint32_t, errorOut **C.char,
) (status C.int32_t) {
	defer guard(&status, errorOut)
	m := monitors.get(uint64(id))
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	digest, err := m.Digest()
	if err != nil {
		return fail(errorOut, statusOf(err, C.NETMON_ERR_INTERNAL), err)
	}
	*lengthOut = C.uint32_t(len(digest))
	if uint64(len(digest)) > uint64(capacity) {
		return fail(errorOut, C.NETMON_ERR_INVALID_ARGUMENT, fmt.Errorf(
			"capacity: %d bytes; this digest takes %d, and no digest more than NETMON_DIGEST_BYTES (%d)", capacity, len(digest),
			cluster.MostDigestBytes))
	}
	copy(unsafe.Slice((*byte)(buffer), len(digest)), digest)
	return C.NETMON_OK
}

// usualView is what the last view took.
var usualView atomic.Int64

//export goNetmonAggregate
func goNetmonAggregate(id C.uint64_t, request *C.char, length C.size_t, jsonOut **C.char, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	return answer(uint64(id), &usualView, jsonOut, errorOut, func(m *monitor.Monitor, text *cText) error {
		return m.Aggregate(bytesOf(request, length), text)
	})
}
