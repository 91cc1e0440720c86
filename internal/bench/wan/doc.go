// Package wan lets connections on loopback behave like connections over a long
// distance. A relay takes bytes from one side and gives them to the other side later:
//
//   - Each byte is on its way for Link.Delay in either direction. Bytes do not wait for
//     the bytes before them: as many are on their way as the window allows.
//   - A connection's set-up takes one round trip, so the first byte of a client arrives
//     after one and a half.
//   - What goes to clients shares Link.Rate among all connections of the Link, in the
//     order in which it was sent.
//   - In each direction a connection has at most Link.Window of bytes on their way. With
//     Link.SlowStart the window begins with ten segments, grows by each byte that is
//     acknowledged while half of the window is in use, and is halved for each timeout of
//     retransmission for which a connection was silent: slow start as Linux does it.
//
// A Link leaves these out: loss and what follows from it (congestion avoidance, recovery),
// the end of slow start when the queue grows (HyStart), a limit of the queue in front of
// the shared rate, delayed acknowledgements, TCP's and IP's headers in the rate, jitter,
// name resolution, and a limit of what clients send. A client's connect returns at once:
// the round trip of the set-up is waited for by the first bytes instead, so that a client
// without TLS believes that it is connected one round trip too early. A client that stops
// reading stops the sender only after the buffers of the relay's sockets are full.
package wan
