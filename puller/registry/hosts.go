package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// Hosts lists the servers that are asked for the images of one registry: first its
// mirrors in their order, then the registry itself. It has the same settings as a
// hosts.toml file of containerd. The zero Hosts is the registry without mirrors.
type Hosts struct {
	Mirrors []Host
	// Server is the registry itself. If its URL is "", the registry is asked at its own
	// name, over https or as Config.PlainHTTP says.
	Server Host
}

// A Host is one server that can be asked for images.
type Host struct {
	// URL is the URL to which the paths of the API are appended, such as
	// "https://mirror.example:5000" or "https://harbor.example/v2/proxy". A URL without
	// a scheme is https. If its path does not end in "/v2", "/v2" is appended, unless
	// OverridePath is set.
	URL string
	// Can has the capabilities of the host. Zero means all.
	Can Capability
	// RootCAs are the authorities that are trusted for this host. Nil means
	// Config.RootCAs.
	RootCAs *x509.CertPool
	// Certificates are the client certificates for this host, if it asks for one.
	Certificates []tls.Certificate
	// SkipVerify accepts every certificate of this host without a check.
	SkipVerify bool
	// Header is sent with each request to this host, and with no request to another
	// host.
	Header http.Header
	// OverridePath leaves the path of URL as it is.
	OverridePath bool
	// DialTimeout bounds the time for a connection to this host. Zero means that only
	// Config.StallTimeout bounds it.
	DialTimeout time.Duration
}

// A Capability says what a host may be asked for. Capabilities are combined with |. A host
// whose Can has only other bits, such as one that is only for pushing, is not asked for
// anything.
type Capability uint8

// The capabilities.
const (
	// CanPull means content by digest. The Client verifies the content.
	CanPull Capability = 1 << iota
	// CanResolve means what a tag points to. The Client trusts the answer of the host.
	CanResolve
	// CanReferrers means lists of the manifests that refer to a manifest, such as its
	// signatures; see Client.Referrers. The Client trusts the answer of the host.
	CanReferrers
)

// A HostsReader reads how registries are configured. Package certsd has one that reads
// containerd's hosts.toml files.
type HostsReader interface {
	// ReadHosts returns the hosts of a registry, such as "registry.example:5000". The zero
	// Hosts means that the configuration does not name the registry. The authorities in the
	// configuration are added to base. If base is nil, they are added to those of the system.
	//
	// The version changes if anything in the configuration of the registry changes, such as a
	// certificate. The Client keeps its connections while the version stays the same.
	//
	// ReadHosts may block. The Client calls it concurrently for several registries, and at
	// most once at a time for each. A call of the Client waits for ReadHosts at most until its
	// context ends, and at most for Config.StallTimeout.
	ReadHosts(registry string, base *x509.CertPool) (hosts Hosts, version string, err error)
}

// Validate returns an error if a Client cannot use h. The error names the first URL or header
// that is wrong.
func (h Hosts) Validate() error {
	for i, m := range h.Mirrors {
		if _, err := m.checked(); err != nil {
			return fmt.Errorf("mirror %d: %w", i+1, err)
		}
	}
	server := h.Server
	if server.URL == "" {
		server.URL = "registry.invalid" // it gets the registry's own name
	}
	if _, err := server.checked(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// checked returns base, if the header of h can be sent.
func (h Host) checked() (*url.URL, error) {
	base, err := h.base()
	if err != nil {
		return nil, err
	}
	if err := checkHeader(h.Header); err != nil {
		return nil, fmt.Errorf("host %q: %w", base.Host, err)
	}
	return base, nil
}

// base returns the URL to which the paths of the API are appended.
func (h Host) base() (*url.URL, error) {
	raw := h.URL
	if !strings.HasPrefix(raw, "http://") && !strings.HasPrefix(raw, "https://") {
		if strings.Contains(raw, "://") {
			return nil, fmt.Errorf("host %.200q: the scheme of its URL must be http or https", raw)
		}
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("host %.200q is not a URL", h.URL)
	case u.User != nil:
		return nil, fmt.Errorf("host %q: its URL must not have user info, because credentials of mirrors come from a keyring", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("host %q: its URL must not have a query or a fragment", u.Host)
	}
	p := strings.TrimSuffix(path.Clean("/"+u.Path), "/")
	if !h.OverridePath && !strings.HasSuffix(p, "/v2") {
		p += "/v2"
	}
	host := strings.ToLower(u.Host)
	if host == hubName || host == hubName+":"+defaultPort(u.Scheme) {
		host = hubHost // a web site is at hubName itself
	}
	return &url.URL{Scheme: u.Scheme, Host: host, Path: p}, nil
}

// Docker Hub's name in image names, the host that has its images, and a second name of
// that host, which some configurations use.
const (
	hubName  = "docker.io"
	hubHost  = "registry-1.docker.io"
	hubAlias = "index.docker.io"
)

// serves reports whether base has the host and port of a registry's name. For docker.io
// the other two names of Docker Hub count as well.
func serves(base *url.URL, registry string) bool {
	names := []string{registry}
	if registry == hubName {
		names = append(names, hubHost, hubAlias)
	}
	for _, name := range names {
		if originOf(base) == originOf(&url.URL{Scheme: base.Scheme, Host: name}) {
			return true
		}
	}
	return false
}
