// Package certsd reads containerd's configuration of registries: a directory such as
// /etc/containerd/certs.d, which has a hosts.toml file for each registry.
//
// The one call most users need is [Dir], in the settings of the registry client:
//
//	client, err := registry.New(registry.Config{HostsReader: certsd.Dir("/etc/containerd/certs.d")})
//
// It is the only package of pullkit that reads TOML, so a program that does not import it
// does not contain a reader of TOML.
//
// # Left out
//
// The package does not read files in the form of containerd's main configuration or of
// containers-registries.conf.
package certsd

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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/puller/registry"
)

// A Dir is a directory in the form of containerd's certs.d. It is the [registry.HostsReader]
// that reads the hosts.toml of the first of these directories that exists:
//
//	certs.d/registry.example_5000_
//	certs.d/registry.example:5000
//	certs.d/_default
//
// A Dir may be a list of such directories ("/etc/containerd/certs.d:/etc/docker/certs.d"), as
// in containerd 2.2. The separator is that of the system's lists of paths. The first directory
// of the list that has a directory for the registry counts. Directories that do not exist are
// passed over. If all of them are missing, that is an error. The empty Dir configures no
// registry.
//
// A directory without a hosts.toml is read as Docker's: *.crt are authorities, *.cert
// and *.key are client certificates and their keys.
//
// All of containerd's settings are understood: server, the host tables in their order,
// capabilities, ca, client, header, skip_verify, override_path and dial_timeout.
// Relative paths start at the directory. Unknown keys are ignored, as in containerd. In a
// file without a server, capabilities and override_path are ignored outside of the host
// tables, as in containerd. "https://docker.io" and "https://index.docker.io" stand for the
// host of Docker Hub.
//
// Only regular files are read, of at most 1 MiB each and 16 MiB in all.
type Dir string

var _ registry.HostsReader = Dir("")

// ReadHosts implements registry.HostsReader.
func (d Dir) ReadHosts(name string, base *x509.CertPool) (hosts registry.Hosts, version string, err error) {
	hosts, version, err = d.read(name, base)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoDir) {
		err = nil // the configuration does not say anything about this registry
	}
	return hosts, version, err
}

// Read returns the hosts of a registry, such as "registry.example:5000". Authorities are
// added to those of the system. The error wraps fs.ErrNotExist if the registry has no
// directory. Read returns when ctx ends, even if the file system does not answer.
func (d Dir) Read(ctx context.Context, name string) (registry.Hosts, error) {
	var err error
	hosts, ok := await.Call(ctx, func() (hosts registry.Hosts) {
		hosts, _, err = d.read(name, nil)
		return hosts
	})
	if !ok {
		return registry.Hosts{}, context.Cause(ctx)
	}
	return hosts, err
}

const (
	// maxConfigFile bounds hosts.toml and each file that it names, in bytes.
	maxConfigFile = 1 << 20
	// maxConfigFiles bounds all these files together, in bytes.
	maxConfigFiles = 16 << 20
	// maxEntries is how many entries a directory in Docker's form may have.
	maxEntries = 4096

	// other stands for the capabilities that a puller does not need.
	other registry.Capability = 1 << 7
)

// errNoDir says that all directories that the caller named are missing. This is an error,
// because a caller without mirrors can name an empty directory instead.
var errNoDir = fmt.Errorf("the directory does not exist: %w", fs.ErrNotExist)

// read returns the hosts of a registry, and a hash of all files that it read.
func (d Dir) read(name string, base *x509.CertPool) (registry.Hosts, string, error) {
	if d == "" {
		return registry.Hosts{}, "", fmt.Errorf("no directory is configured: %w", fs.ErrNotExist)
	}
	there := 0
	for _, root := range filepath.SplitList(string(d)) {
		if root == "" {
			continue
		}
		info, err := os.Stat(root)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return registry.Hosts{}, "", err
		case !info.IsDir():
			return registry.Hosts{}, "", fmt.Errorf("%q is not a directory", root)
		}
		there++
		dir, err := hostDir(root, name)
		if err != nil {
			return registry.Hosts{}, "", err
		}
		if dir == "" {
			continue
		}
		r := hostsReader{dir: dir, base: base, sum: sha256.New()}
		hosts, err := r.read()
		if err == nil {
			err = hosts.Validate()
		}
		if err != nil {
			// The error is not wrapped: a missing file that hosts.toml names must not
			// look like a registry without a configuration.
			return registry.Hosts{}, "", fmt.Errorf("%s: %s", dir, err.Error())
		}
		return hosts, hex.EncodeToString(r.sum.Sum(nil)), nil
	}
	if there == 0 {
		return registry.Hosts{}, "", fmt.Errorf("%.200q: %w", string(d), errNoDir)
	}
	return registry.Hosts{}, "", fmt.Errorf("%s has no directory for %q: %w", string(d), name, fs.ErrNotExist)
}

// hostDir returns the directory for a registry below root, or "" if the registry does not have
// a directory there.
func hostDir(root, registryName string) (string, error) {
	for _, name := range []string{portName(registryName), registryName, "_default"} {
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
func portName(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		return name[:i] + "_" + name[i+1:] + "_"
	}
	return name
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

func (r *hostsReader) read() (registry.Hosts, error) {
	data, err := r.file("hosts.toml")
	if errors.Is(err, fs.ErrNotExist) {
		server, err := r.dockerCerts()
		return registry.Hosts{Server: server}, err
	}
	if err != nil {
		return registry.Hosts{}, err
	}
	var doc struct {
		Server string               `toml:"server"`
		Host   map[string]hostTable `toml:"host"`
		hostTable
	}
	if err := toml.Unmarshal(data, &doc); err != nil {
		return registry.Hosts{}, tomlError(err)
	}
	var hosts registry.Hosts
	if doc.Server == "" {
		// Without a server, override_path and capabilities are ignored, as in
		// containerd. The other settings of the server still count: ca, client, header,
		// skip_verify and dial_timeout.
		doc.OverridePath = false
		if _, err := capabilities(doc.Capabilities); err != nil {
			return registry.Hosts{}, fmt.Errorf("server: %w", err)
		}
		doc.Capabilities = nil
	}
	if hosts.Server, err = r.host(doc.Server, doc.hostTable); err != nil {
		return registry.Hosts{}, fmt.Errorf("server: %w", err)
	}
	for _, url := range hostOrder(data, doc.Host) {
		h, err := r.host(url, doc.Host[url])
		if err != nil {
			return registry.Hosts{}, fmt.Errorf("host %.200q: %w", url, err)
		}
		hosts.Mirrors = append(hosts.Mirrors, h)
	}
	return hosts, nil
}

// tomlError returns an error with the position of the fault in the file. The error does not
// quote the line, because a header in the line may be a secret.
func tomlError(err error) error {
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column := decode.Position()
		return fmt.Errorf("hosts.toml, line %d, column %d: cannot be read as TOML of this form", line, column)
	}
	return errors.New("hosts.toml: " + redact.Text(err.Error()))
}

// host returns the Host of a table.
func (r *hostsReader) host(url string, t hostTable) (registry.Host, error) {
	can, err := capabilities(t.Capabilities)
	if err != nil {
		return registry.Host{}, err
	}
	h := registry.Host{URL: url, Can: can, SkipVerify: t.SkipVerify, OverridePath: t.OverridePath}
	if t.DialTimeout != "" {
		if h.DialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.DialTimeout < 0 {
			return registry.Host{}, fmt.Errorf("dial_timeout %.40q is not a duration", t.DialTimeout)
		}
	}
	if h.Header, err = headers(t.Header); err != nil {
		return registry.Host{}, err
	}
	cas, err := stringList(t.CA)
	if err != nil {
		return registry.Host{}, fmt.Errorf("ca: %w", err)
	}
	if h.RootCAs, err = r.pool(cas); err != nil {
		return registry.Host{}, err
	}
	h.Certificates, err = r.clients(t.Client)
	return h, err
}

// capabilities combines the named capabilities. An empty list is zero.
func capabilities(names []string) (can registry.Capability, err error) {
	for _, name := range names {
		switch strings.ToLower(name) {
		case "pull":
			can |= registry.CanPull
		case "resolve":
			can |= registry.CanResolve
		case "referrers":
			can |= registry.CanReferrers
		case "push":
			can |= other // a host with only this bit is not asked; zero would mean all capabilities
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
	return h, nil
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
func (r *hostsReader) dockerCerts() (registry.Host, error) {
	dir, err := os.Open(r.dir)
	if err != nil {
		return registry.Host{}, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxEntries + 1)
	if err != nil && err != io.EOF {
		return registry.Host{}, err
	}
	if len(entries) > maxEntries {
		return registry.Host{}, fmt.Errorf("the directory has more than %d files", maxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var h registry.Host
	var cas []string
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".crt":
			cas = append(cas, name)
		case ".cert":
			cert, err := r.keyPair(name, strings.TrimSuffix(name, ".cert")+".key")
			if err != nil {
				return registry.Host{}, err
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
