package registry

import (
	"errors"
	"fmt"
	"strings"
)

// maxChallenge is how many bytes of WWW-Authenticate headers are read.
const maxChallenge = 16 << 10

// A challenge is one way to authenticate that an answer offers (RFC 9110,
// section 11.6.1). Scheme and the names of parameters are lower case.
type challenge struct {
	scheme string
	params map[string]string
}

// parseChallenges reads the WWW-Authenticate headers of one answer. One that
// cannot be read for certain makes all of them useless: which realm gets a
// password must not be a matter of interpretation. Errors quote headers without
// the secrets.
func parseChallenges(headers []string, secrets ...string) ([]challenge, error) {
	total := 0
	var all []challenge
	for _, header := range headers {
		if total += len(header); total > maxChallenge {
			return nil, fmt.Errorf("WWW-Authenticate is longer than %d bytes", maxChallenge)
		}
		p := challengeParser{rest: header, secrets: secrets}
		if err := p.parse(); err != nil {
			return nil, err
		}
		all = append(all, p.found...)
	}
	return all, nil
}

// A challengeParser reads a list of challenges. Elements are separated by
// commas and may be empty; an element that is "token SP ..." or a lone token
// begins a challenge, "name=value" adds a parameter to the one before.
type challengeParser struct {
	rest    string
	found   []challenge
	secrets []string
}

func (p *challengeParser) parse() error {
	for {
		p.rest = strings.TrimLeft(p.rest, " \t,")
		if p.rest == "" {
			return nil
		}
		name := p.token()
		if name == "" {
			return fmt.Errorf("WWW-Authenticate cannot be read at %s", quote(p.rest, 40, p.secrets))
		}
		afterName := p.rest
		p.space()
		if strings.HasPrefix(p.rest, "=") {
			if err := p.param(name); err != nil {
				return err
			}
			continue
		}
		if afterName != "" && p.rest == afterName && p.rest[0] != ',' {
			return fmt.Errorf("WWW-Authenticate cannot be read at %s", quote(p.rest, 40, p.secrets))
		}
		p.found = append(p.found, challenge{strings.ToLower(name), map[string]string{}})
		p.token68()
	}
}

// param reads the "=value" of a parameter of the last challenge.
func (p *challengeParser) param(name string) error {
	if len(p.found) == 0 {
		return fmt.Errorf("WWW-Authenticate has a parameter %s before any scheme", quote(name, 40, p.secrets))
	}
	params := p.found[len(p.found)-1].params
	name = strings.ToLower(name)
	if _, twice := params[name]; twice {
		return fmt.Errorf("WWW-Authenticate names %s twice", quote(name, 40, p.secrets))
	}
	p.rest = p.rest[1:]
	p.space()
	value, err := p.value()
	if err != nil {
		return err
	}
	if p.space(); p.rest != "" && p.rest[0] != ',' {
		return fmt.Errorf("WWW-Authenticate cannot be read at %s", quote(p.rest, 40, p.secrets))
	}
	params[name] = value
	return nil
}

func (p *challengeParser) value() (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		if v := p.token(); v != "" {
			return v, nil
		}
		return "", errors.New("WWW-Authenticate has a parameter without a value")
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\\':
			// Nothing else needs quoting, so nobody should quote it.
			if i++; i == len(p.rest) || p.rest[i] != '"' && p.rest[i] != '\\' {
				return "", errors.New("WWW-Authenticate quotes what needs no quoting")
			}
			c = p.rest[i]
		}
		if c < ' ' || c == 0x7f {
			return "", errors.New("WWW-Authenticate has a control character")
		}
		b.WriteByte(c)
	}
	return "", errors.New("WWW-Authenticate has a quoted string without an end")
}

// token68 skips the credentials-like text that some schemes have in place of
// parameters ("Negotiate abc=="). It is told from a parameter by what follows
// its equals signs: nothing.
func (p *challengeParser) token68() {
	i := 0
	for i < len(p.rest) && (isToken(p.rest[i]) || p.rest[i] == '/') {
		i++
	}
	if i == 0 {
		return
	}
	for i < len(p.rest) && p.rest[i] == '=' {
		i++
	}
	rest := strings.TrimLeft(p.rest[i:], " \t")
	if rest == "" || rest[0] == ',' {
		p.rest = rest
	}
}

func (p *challengeParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *challengeParser) token() string {
	i := 0
	for i < len(p.rest) && isToken(p.rest[i]) {
		i++
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

// isToken reports whether c may stand in a token (RFC 9110, section 5.6.2).
func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
