package reference

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Parse reads an image name as the kubelet does: docker.io, library/ and
// :latest are filled in where nothing is written. The package comment has the
// grammar. Errors are *[ParseError]. An accepted name costs no allocation.
func Parse(s string) (Reference, error) {
	var p pieces
	if f := p.parse(s); f.why != "" {
		return Reference{}, newParseError(s, f)
	}
	return p.reference(latest), nil
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

// Written says how much of a parsed name was written down.
type Written struct {
	Registry bool // the name has a registry of its own, docker.io included
	Tag      bool // the name has a tag of its own
	// CRI is the name as the kubelet hands it to a container runtime: as
	// written, with ":latest" appended where Parse filled the tag in, and never
	// with a registry or library/ put in front (k8s.io/kubernetes,
	// pkg/kubelet/images, EnsureImageExists).
	CRI string
}

// ParseWritten is [Parse] that also returns what was written and what filled in.
func ParseWritten(s string) (Reference, Written, error) {
	var p pieces
	if f := p.parse(s); f.why != "" {
		return Reference{}, Written{}, newParseError(s, f)
	}
	w := Written{Registry: p.registry != "", Tag: p.tag != "", CRI: s}
	if p.tag == "" && p.digest == "" {
		w.CRI = s + ":" + latest
	}
	return p.reference(latest), w, nil
}

// A Parser parses names with defaults other than Docker Hub's. The zero Parser
// is [Parse]. A name that writes its registry means the same to every Parser,
// so canonical names may be exchanged between programs with different ones.
// Kubernetes has no such setting.
type Parser struct {
	// Registry is the host of names that write none; "" means docker.io. It
	// must look like a registry: localhost, or with a dot, port or upper-case
	// letter.
	Registry string
	// Namespace is put before a repository of one component where the registry
	// is filled in too, "team/images" for example; "" means library on Docker
	// Hub and nothing elsewhere.
	Namespace string
	// Tag is given to names with neither tag nor digest; "" means latest.
	Tag string
}

// Parse reads an image name and fills in the Parser's defaults. Errors are
// *[ParseError], also those about a field of p.
func (p Parser) Parse(s string) (Reference, error) {
	if err := p.check(); err != nil {
		return Reference{}, err
	}
	var q pieces
	if f := q.read(s); f.why != "" {
		return Reference{}, newParseError(s, f)
	}
	bare := q.registry == ""
	if bare {
		q.registry = p.Registry
	}
	tag := p.Tag
	if tag == "" {
		tag = latest
	}
	if bare && p.Namespace != "" && strings.IndexByte(q.repository, '/') < 0 {
		q.repository = p.Namespace + "/" + q.repository
	}
	if f := q.fits(); f.why != "" {
		return Reference{}, newParseError(s, fault{0, PartRepository, f.why}) // what is too long is not all in s
	}
	return q.reference(tag), nil
}

// check reports a field that can be no part of a name.
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

// parse reads a whole name that is to get Docker Hub's defaults.
func (p *pieces) parse(s string) fault {
	if f := p.read(s); f.why != "" {
		return f
	}
	return p.fits()
}

// fits reports a repository that is too long, at its first byte over.
func (p *pieces) fits() fault {
	over := len(p.repository) - maxRepository
	if isHub(p.registry) && strings.IndexByte(p.repository, '/') < 0 {
		over += len(library)
	}
	if over <= 0 {
		return fault{}
	}
	at := len(p.repository) - over
	if p.registry != "" {
		at += len(p.registry) + len("/")
	}
	return fault{at, PartRepository, ErrTooLong}
}

// reference gives the one form in which all spellings of an image are equal.
func (p *pieces) reference(tag string) Reference {
	r := Reference{p.registry, p.repository, p.tag, digest.Digest(p.digest)}
	if isHub(r.registry) {
		r.registry = ""
		if rest, ok := strings.CutPrefix(r.repository, library); ok && strings.IndexByte(rest, '/') < 0 {
			r.repository = rest
		}
	}
	if r.tag == "" && r.digest == "" {
		r.tag = tag
	}
	return r
}

func isHub(registry string) bool {
	return registry == "" || registry == hub || registry == legacyHub
}
