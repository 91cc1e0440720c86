package credentials

// Rules say how keys are read and candidates ordered. The package's functions
// use the zero Rules.
type Rules struct {
	// Kubelet takes the kubelet's rules (of Kubernetes 1.36 to 1.38 beta), with their
	// shortcomings, instead of ours:
	//   - a path key matches by byte prefix, so the password of
	//     registry.io/team also goes to registry.io/team-b;
	//   - in the host only * is a wildcard; a key with another one is left out
	//     or cut short, as net/url cuts it;
	//   - hosts compare with case, and a bracketed IPv6 address only with a port;
	//   - the key index.docker.io counts only where no other key matches;
	//   - an entry without a credential is a candidate, identity and registry
	//     tokens and the names of helpers are not read, and the same credential is
	//     tried again;
	//   - a document that begins with a byte order mark is refused;
	//   - all plugins are asked before the first candidate of any of them is
	//     tried, and the order of keys counts over all their answers.
	// A malformed entry costs only itself under these rules too; where the kubelet
	// refuses the whole document for it, Problems is not empty.
	Kubelet bool
}
