package reference

import (
	"cmp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Parse reads an image name as the kubelet does (k8s.io/kubernetes, pkg/util/parsers,
// ParseImageName): docker.io, library/ and :latest are filled in where nothing is written.
// The package comment has the grammar and the one difference. Errors are *[ParseError].
// Parsing a name that is accepted allocates no memory.
func Parse(s string) (r Reference, err error) {
	e, perr := scan(s)
	if perr != nil {
		return Reference{}, perr
	}
	// The fields are set one by one and in place, because copies of the struct would
	// take as long as the scan.
	if e.registry >= 0 {
		r.registry = s[:e.registry]
	}
	r.repository = s[e.registry+1 : e.repository]
	if e.tag > e.repository {
		r.tag = s[e.repository+1 : e.tag]
	}
	if e.tag < len(s) {
		r.digest = digest.Digest(s[e.tag+1:])
	}
	if e.repository == len(s) {
		r.tag = latest
	}
	if over := r.normalize(); over > 0 {
		return Reference{}, newParseError(s, e.repository-over, PartRepository, ErrTooLong)
	}
	return r, nil
}

// normalize changes r to the one form in which all spellings of an image are equal.
// over is the number of bytes by which the repository is too long.
func (r *Reference) normalize() (over int) {
	over = len(r.repository) - maxRepository
	if r.registry == "" || r.registry == hub || r.registry == legacyHub {
		r.registry = ""
		if len(r.repository) > maxRepository-len(library) && strings.IndexByte(r.repository, '/') < 0 {
			over += len(library)
		}
		if rest, ok := strings.CutPrefix(r.repository, library); ok && strings.IndexByte(rest, '/') < 0 {
			r.repository = rest
		}
	}
	return over
}

// MustParse is like [Parse] but panics if s cannot be parsed. It is for
// constants in programs and tests.
func MustParse(s string) Reference {
	r, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// Written says which parts of a name were written by its author, and which were filled in.
type Written struct {
	Registry bool // the name has a registry, perhaps docker.io
	Tag      bool // the name has a tag
	// CRI is the name that the kubelet gives to a container runtime: the name as written,
	// with ":latest" appended if Parse filled in the tag, and never with a registry or
	// library/ in front (k8s.io/kubernetes, pkg/kubelet/images, EnsureImageExists). If a
	// Parser has filled in a registry or a namespace, it is the canonical name, because the
	// runtime would fill in its own.
	CRI string
}

// ParseWritten is [Parse], and also returns which parts were written.
func ParseWritten(s string) (Reference, Written, error) { return Parser{}.ParseWritten(s) }

// A Parser parses names with defaults other than Docker Hub's. The zero Parser is [Parse].
// A canonical name leaves nothing to fill in, so it means the same to every Parser, and
// programs with different Parsers can exchange it. Kubernetes has no such setting.
type Parser struct {
	// Registry is the host for names without a registry; "" means docker.io. It must look
	// like a registry: localhost, or a host with a dot, a port or an upper-case letter.
	Registry string
	// Namespace, "team/images" for example, is put before the repository of a name that has
	// no registry and only one component. "" means library on Docker Hub and nothing
	// elsewhere.
	Namespace string
	// Tag is given to names with neither tag nor digest; "" means latest.
	Tag string
}

// Parse reads an image name and fills in the Parser's defaults. Errors are *[ParseError],
// also those about a field of p. If a name is too long only because of the defaults, the
// error quotes the name with the defaults.
func (p Parser) Parse(s string) (Reference, error) {
	if p == (Parser{}) {
		return Parse(s)
	}
	if err := p.check(); err != nil {
		return Reference{}, err
	}
	e, perr := scan(s)
	if perr != nil {
		return Reference{}, perr
	}
	name := s
	if e.repository == len(s) && p.Tag != "" {
		name += ":" + p.Tag
	}
	if e.registry < 0 {
		name = p.prefix(s[:e.repository]) + name
	}
	return Parse(name)
}

// ParseWritten is Parse, and also returns which parts were written.
func (p Parser) ParseWritten(s string) (Reference, Written, error) {
	r, err := p.Parse(s)
	if err != nil {
		return Reference{}, Written{}, err
	}
	e, _ := scan(s)
	w := Written{Registry: e.registry >= 0, Tag: e.tag > e.repository, CRI: s}
	switch {
	case !w.Registry && (p.Registry != "" || p.Namespace != ""):
		w.CRI = r.String()
	case e.repository == len(s):
		w.CRI = s + ":" + cmp.Or(p.Tag, latest)
	}
	return r, w, nil
}

// prefix returns the text to put before a repository that was written without a registry. A
// namespace always follows a registry, because a namespace at the beginning of a name might
// look like a registry.
func (p Parser) prefix(repository string) string {
	namespace := ""
	if p.Namespace != "" && strings.IndexByte(repository, '/') < 0 {
		namespace = p.Namespace + "/"
	}
	if p.Registry == "" && namespace == "" {
		return ""
	}
	return cmp.Or(p.Registry, hub) + "/" + namespace
}

// check returns an error if a field of p cannot be a part of a name.
func (p Parser) check() error {
	if p.Registry != "" {
		if err := checkRegistry("default registry", p.Registry); err != nil {
			return err
		}
	}
	if p.Namespace != "" {
		if err := checkRepository("default namespace", p.Namespace); err != nil {
			return err
		}
	}
	if p.Tag != "" {
		return checkTag("default tag", p.Tag)
	}
	return nil
}

// Trim returns a name as written, without tag and digest. Nothing is filled in:
// "localhost:5000/app:v1" gives "localhost:5000/app". The kubelet's allowlist of preloaded
// images and its records of pulled images use the result as their key (k8s.io/kubernetes,
// pkg/kubelet/images/pullmanager, trimImageTagDigest).
//
// As in the kubelet, the grammar is looser than that of [Parse]. Docker Hub is not
// assumed, so the text before a slash may be any host name, and library/ has no meaning.
// A host with an underscore and a name of 64 hex digits are accepted. The error is a
// *[ParseError].
func Trim(name string) (string, error) {
	end, err := scanAsWritten(name)
	if err != nil {
		return "", err
	}
	return name[:end], nil
}

// scanAsWritten reads a name without any defaults and returns where its
// repository ends.
func scanAsWritten(s string) (int, *ParseError) {
	start, at, whyRegistry := 0, 0, Reason("")
	if slash := strings.IndexByte(s, '/'); slash > 0 {
		if at, whyRegistry = scanRegistry(s[:slash]); whyRegistry == "" {
			start = slash + 1
		}
	}
	end, why := scanRepository(s, start)
	switch {
	case why != "" && whyRegistry != "" && at > end: // the registry was read further, so its fault is the likelier one
		return 0, newParseError(s, at, PartRegistry, whyRegistry)
	case why != "":
		return 0, newParseError(s, end, PartRepository, why)
	case end-start > maxRepository:
		return 0, newParseError(s, start+maxRepository, PartRepository, ErrTooLong)
	}
	_, err := scanVersion(s, end)
	return end, err
}
