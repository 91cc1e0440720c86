package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
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

// A Capability says what a host may be asked for. Capabilities are combined with |.
type Capability uint8

// The capabilities.
const (
	// CanPull means content by digest. The Client verifies the content.
	CanPull Capability = 1 << iota
	// CanResolve means what a tag points to. The Client trusts the answer of the host.
	CanResolve
	// CanReferrers means what refers to a manifest, such as its signatures; see
	// Client.Referrers. The Client trusts the answer of the host.
	CanReferrers
	// other stands for the capabilities that a puller does not need. A host that has
	// only such capabilities is not asked for anything, while zero would mean all.
	other
)

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

const (
	// maxConfigFile bounds hosts.toml and each file that it names, in bytes.
	maxConfigFile = 1 << 20
	// maxConfigFiles bounds all these files together, in bytes.
	maxConfigFiles = 16 << 20
	// maxCertsDir is how many entries a directory in Docker's form may have.
	maxCertsDir = 4096
)

// ReadHosts returns the hosts of a registry as a directory in the form of containerd's
// certs.d configures them. It reads the hosts.toml of the first of these directories
// that exists:
//
//	certsDir/registry.example_5000_
//	certsDir/registry.example:5000
//	certsDir/_default
//
// certsDir may be a list of such directories, split as the system splits paths
// ("/etc/containerd/certs.d:/etc/docker/certs.d"). The first one that has a directory
// for the registry counts, as in containerd. Directories of the list that do not exist
// are passed over.
//
// A directory without a hosts.toml is read as Docker's: *.crt are authorities, *.cert
// and *.key are client certificates and their keys. The error wraps fs.ErrNotExist if
// the registry has no directory.
//
// All of containerd's settings are understood: server, the host tables in their order,
// capabilities, ca, client, header, skip_verify, override_path and dial_timeout.
// Relative paths start at the directory. Authorities are added to those of the system.
// Unknown keys are ignored, as in containerd. In a file without a server, capabilities
// and override_path are ignored outside of the host tables, as in containerd.
// "https://docker.io" and "https://index.docker.io" stand for the host of Docker Hub.
//
// Only regular files are read, of at most 1 MiB each and 16 MiB in all.
//
// ReadHosts returns when ctx ends, even if the file system does not answer.
func ReadHosts(ctx context.Context, certsDir, registry string) (Hosts, error) {
	var err error
	hosts, ok := await.Call(ctx, func() (hosts Hosts) {
		hosts, _, err = readHosts(certsDir, registry, nil)
		return hosts
	})
	if !ok {
		return Hosts{}, canceled(ctx, registry)
	}
	return hosts, err
}

// errNoCertsDir says that all directories that the caller named are missing. That is an
// error, because a caller without mirrors can name an empty directory.
var errNoCertsDir = fmt.Errorf("the directory does not exist: %w", fs.ErrNotExist)

// readHosts is ReadHosts without a context. It also returns a fingerprint of all files
// that it read. Authorities are added to base; nil means those of the system.
func readHosts(certsDir, registry string, base *x509.CertPool) (Hosts, string, error) {
	there := 0
	for _, root := range filepath.SplitList(certsDir) {
		if root == "" {
			continue
		}
		info, err := os.Stat(root)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return Hosts{}, "", fmt.Errorf("CertsDir: %w", err)
		case !info.IsDir():
			return Hosts{}, "", fmt.Errorf("CertsDir: %q is not a directory", root)
		}
		there++
		dir, err := hostDir(root, registry)
		if err != nil {
			return Hosts{}, "", err
		}
		if dir == "" {
			continue
		}
		r := hostsReader{dir: dir, base: base, sum: sha256.New()}
		hosts, err := r.read()
		if err != nil {
			// The error is not wrapped: a missing file that hosts.toml names must not
			// look like a registry without a configuration.
			return Hosts{}, "", fmt.Errorf("%s: %s", dir, err.Error())
		}
		return hosts, hex.EncodeToString(r.sum.Sum(nil)), nil
	}
	if there == 0 {
		return Hosts{}, "", fmt.Errorf("CertsDir %.200q: %w", certsDir, errNoCertsDir)
	}
	return Hosts{}, "", fmt.Errorf("%s has no directory for %q: %w", certsDir, registry, fs.ErrNotExist)
}

// hostDir returns the directory for a registry below root; "" if the registry has no
// directory there.
func hostDir(root, registry string) (string, error) {
	for _, name := range []string{portName(registry), registry, "_default"} {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			continue
		}
		dir := filepath.Join(root, name)
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue
		}
		return dir, err
	}
	return "", nil
}

// portName returns host:port in containerd's form for file names, host_port_, which
// every system allows.
func portName(registry string) string {
	if i := strings.LastIndexByte(registry, ':'); i > 0 {
		return registry[:i] + "_" + registry[i+1:] + "_"
	}
	return registry
}

// A hostsReader reads the directory of one registry.
type hostsReader struct {
	dir  string
	base *x509.CertPool
	sum  hash.Hash
	size int // of all files so far
}

// A hostTable has the settings of one host in a hosts.toml.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	Header       map[string]any `toml:"header"`
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

func (r *hostsReader) read() (Hosts, error) {
	data, err := r.file("hosts.toml")
	if errors.Is(err, fs.ErrNotExist) {
		server, err := r.dockerCerts()
		return Hosts{Server: server}, err
	}
	if err != nil {
		return Hosts{}, err
	}
	var doc struct {
		Server string               `toml:"server"`
		Host   map[string]hostTable `toml:"host"`
		hostTable
	}
	if err := toml.Unmarshal(data, &doc); err != nil {
		return Hosts{}, tomlError(err)
	}
	var hosts Hosts
	if doc.Server == "" {
		// Without a server, override_path and capabilities are ignored, as in
		// containerd. The other settings of the server count: ca, client, header,
		// skip_verify and dial_timeout.
		doc.OverridePath = false
		if _, err := capabilities(doc.Capabilities); err != nil {
			return Hosts{}, fmt.Errorf("server: %w", err)
		}
		doc.Capabilities = nil
	}
	if hosts.Server, err = r.host(doc.Server, doc.hostTable); err != nil {
		return Hosts{}, fmt.Errorf("server: %w", err)
	}
	for _, url := range hostOrder(data, doc.Host) {
		h, err := r.host(url, doc.Host[url])
		if err != nil {
			return Hosts{}, fmt.Errorf("host %.200q: %w", url, err)
		}
		if _, err := h.base(); err != nil {
			return Hosts{}, err
		}
		hosts.Mirrors = append(hosts.Mirrors, h)
	}
	return hosts, nil
}

// tomlError returns an error with the position of the fault in the file. It does not
// quote the line, because a header in it may be a secret.
func tomlError(err error) error {
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column := decode.Position()
		return fmt.Errorf("hosts.toml, line %d, column %d: cannot be read as TOML of this form", line, column)
	}
	return errors.New("hosts.toml: " + redact.Text(err.Error()))
}

// host returns the Host of a table.
func (r *hostsReader) host(url string, t hostTable) (Host, error) {
	can, err := capabilities(t.Capabilities)
	if err != nil {
		return Host{}, err
	}
	h := Host{URL: url, Can: can, SkipVerify: t.SkipVerify, OverridePath: t.OverridePath}
	if t.DialTimeout != "" {
		if h.DialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.DialTimeout < 0 {
			return Host{}, fmt.Errorf("dial_timeout %.40q is not a duration", t.DialTimeout)
		}
	}
	if h.Header, err = headers(t.Header); err != nil {
		return Host{}, err
	}
	cas, err := stringList(t.CA)
	if err != nil {
		return Host{}, fmt.Errorf("ca: %w", err)
	}
	if h.RootCAs, err = r.pool(cas); err != nil {
		return Host{}, err
	}
	h.Certificates, err = r.clients(t.Client)
	return h, err
}

// capabilities combines the named capabilities. An empty list is zero.
func capabilities(names []string) (can Capability, err error) {
	for _, name := range names {
		switch strings.ToLower(name) {
		case "pull":
			can |= CanPull
		case "resolve":
			can |= CanResolve
		case "referrers":
			can |= CanReferrers
		case "push":
			can |= other
		default:
			return 0, fmt.Errorf("unknown capability %.40q", name)
		}
	}
	return can, nil
}

// stringList reads "a" and ["a", "b"].
func stringList(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var list []string
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("it must have strings only, but has a value of type %T", item)
			}
			list = append(list, s)
		}
		return list, nil
	}
	return nil, fmt.Errorf("it must be a string or an array of strings, but is of type %T", v)
}

func headers(table map[string]any) (http.Header, error) {
	var h http.Header
	for name, v := range table {
		values, err := stringList(v)
		if err != nil {
			return nil, fmt.Errorf("header %.80q: %w", name, err)
		}
		if h == nil {
			h = http.Header{}
		}
		for _, value := range values {
			h.Add(name, value)
		}
	}
	return h, checkHeader(h)
}

// clients reads "a.pem", ["a.pem", "b.pem"] and [["a.cert", "a.key"], ["b.pem", ""]].
func (r *hostsReader) clients(v any) ([]tls.Certificate, error) {
	var pairs [][]string
	if list, ok := v.([]any); ok {
		for _, item := range list {
			pair, err := stringList(item)
			if err != nil || len(pair) == 0 || len(pair) > 2 {
				return nil, errors.New("client: each entry must be a file, or a pair of a certificate and its key")
			}
			pairs = append(pairs, pair)
		}
	} else if one, err := stringList(v); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	} else if len(one) > 0 {
		pairs = [][]string{one}
	}
	var certs []tls.Certificate
	for _, pair := range pairs {
		key := pair[0]
		if len(pair) == 2 && pair[1] != "" {
			key = pair[1]
		}
		cert, err := r.keyPair(pair[0], key)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

func (r *hostsReader) keyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := r.file(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := r.file(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// pool returns a copy of r.base with the authorities in files added; nil if files is
// empty.
func (r *hostsReader) pool(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := r.base
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	} else {
		pool = pool.Clone()
	}
	for _, name := range files {
		data, err := r.file(name)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", name)
		}
	}
	return pool, nil
}

// dockerCerts reads a directory in Docker's form.
func (r *hostsReader) dockerCerts() (Host, error) {
	dir, err := os.Open(r.dir)
	if err != nil {
		return Host{}, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxCertsDir + 1)
	if err != nil && err != io.EOF {
		return Host{}, err
	}
	if len(entries) > maxCertsDir {
		return Host{}, fmt.Errorf("the directory has more than %d files", maxCertsDir)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var h Host
	var cas []string
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".crt":
			cas = append(cas, name)
		case ".cert":
			cert, err := r.keyPair(name, strings.TrimSuffix(name, ".cert")+".key")
			if err != nil {
				return Host{}, err
			}
			h.Certificates = append(h.Certificates, cert)
		}
	}
	h.RootCAs, err = r.pool(slices.Sorted(slices.Values(cas)))
	return h, err
}

// file reads one file and adds it to the fingerprint. Relative names start at the
// directory.
func (r *hostsReader) file(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(r.dir, name)
	}
	data, _, err := regular.ReadFile(name, maxConfigFile)
	switch {
	case errors.Is(err, regular.ErrTooLarge):
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxConfigFile)
	case errors.Is(err, regular.ErrNotRegular):
		return nil, fmt.Errorf("%s %w", name, err)
	case err != nil:
		return nil, err
	}
	if r.size += len(data); r.size > maxConfigFiles {
		return nil, fmt.Errorf("the files that hosts.toml names have more than %d bytes in all", maxConfigFiles)
	}
	fmt.Fprintf(r.sum, "%q %d ", name, len(data))
	r.sum.Write(data)
	return data, nil
}

// hostOrder returns the URLs of the hosts of a hosts.toml in the order of the file. The
// hosts are asked in that order, and the decoded map does not have it.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	note := func(key []string) {
		if len(key) < 2 || key[0] != "host" || slices.Contains(order, key[1]) {
			return
		}
		if _, ok := hosts[key[1]]; ok {
			order = append(order, key[1])
		}
	}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keyOf(e)
			note(table)
		case unstable.KeyValue:
			key := append(slices.Clip(table), keyOf(e)...)
			note(key)
			if len(key) == 1 && e.Value().Kind == unstable.InlineTable {
				for it := e.Value().Children(); it.Next(); {
					note(append(slices.Clip(key), keyOf(it.Node())...))
				}
			}
		}
	}
	// Hosts that are written in a form that is not handled above come last.
	for _, url := range slices.Sorted(maps.Keys(hosts)) {
		note([]string{"host", url})
	}
	return order
}

func keyOf(n *unstable.Node) []string {
	var key []string
	for it := n.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
	}
	return key
}
