package probe

// SocketMark is the value of TCP_USER_TIMEOUT, in ms, on netmon's own TCP sockets: who reads the sockets of this process leaves
// those out. Nobody else would choose 21 minutes, 36 seconds and 321 ms.
const SocketMark = 1296321
