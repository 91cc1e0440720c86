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

// Hosts says where the images of one registry are asked for: first its mirrors
// in their order, then the registry itself. It says what a hosts.toml file of
// containerd says.
type Hosts struct {
	Mirrors []Host
	// Server is the registry itself. With URL "" it is the https origin that the
	// registry's name tells.
	Server Host
}

// A Host is one server that images can be asked of.
type Host struct {
	// URL is "https://mirror.example:5000" or, with a path that goes before
	// what the API appends, "https://harbor.example/v2/proxy". "/v2" is put at
	// its end where it does not end so, unless OverridePath says not to.
	URL string
	// Capabilities says what the host is trusted with; zero means all.
	Capabilities Capability
	// RootCAs are the authorities trusted for this host; nil means the Client's.
	RootCAs *x509.CertPool
	// Certificates are shown to this host if it asks for one.
	Certificates []tls.Certificate
	// SkipVerify takes any certificate of this host.
	SkipVerify bool
	// Header is sent with each request to this host, and to no other.
	Header http.Header
	// OverridePath leaves URL's path as it is.
	OverridePath bool
	// DialTimeout bounds connecting to this host; zero means Client.Stall alone.
	DialTimeout time.Duration
}

// A Capability is what a host may be asked. Capabilities are added with |.
type Capability uint8

// The capabilities.
const (
	// Pull is content by digest: what it gives is verified.
	Pull Capability = 1 << iota
	// Resolve is what a tag points to: what it says is believed.
	Resolve
	// other stands for what is no business of a puller, so that a host that may
	// be asked nothing else is not taken for one that may be asked all.
	other
)

// base returns the URL that the API's paths are appended to.
func (h Host) base() (*url.URL, error) {
	raw := h.URL
	if !strings.HasPrefix(raw, "http://") && !strings.HasPrefix(raw, "https://") {
		if strings.Contains(raw, "://") {
			return nil, fmt.Errorf("host %.200q: want http or https", raw)
		}
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("host %.200q is no URL", h.URL)
	case u.User != nil:
		return nil, fmt.Errorf("host %q: a URL with user info is not taken; credentials of mirrors come from a keyring", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("host %q: a query has no place in its URL", u.Host)
	}
	p := strings.TrimSuffix(path.Clean("/"+u.Path), "/")
	if !h.OverridePath && !strings.HasSuffix(p, "/v2") {
		p += "/v2"
	}
	host := strings.ToLower(u.Host)
	if host == hubName || host == hubName+":"+defaultPort(u.Scheme) {
		host = hubHost // hubName itself leads to a web site
	}
	return &url.URL{Scheme: u.Scheme, Host: host, Path: p}, nil
}

// Docker Hub's name in image names, where its images are, and a second name of that
// host that people have in their files.
const (
	hubName  = "docker.io"
	hubHost  = "registry-1.docker.io"
	hubAlias = "index.docker.io"
)

// serves reports whether base is where the images of a registry are by its name: at
// its host and port, or at one of Docker Hub's for docker.io.
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
