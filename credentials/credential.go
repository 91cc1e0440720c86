package credentials

import "time"

// A Credential is what one try of a pull authenticates with. It is comparable,
// and printing it shows no secret. The zero Credential is anonymous.
type Credential struct {
	Username string
	Password Sensitive
	// IdentityToken is an OAuth2 refresh token: it is exchanged for a registry
	// token and never sent to the registry itself.
	IdentityToken Sensitive
	// RegistryToken is a bearer token that is sent to the registry as it is.
	RegistryToken Sensitive
	// Origin says where the credential was found. It takes no part in Same.
	Origin Origin
	// Expires is when the source says the credential ends; zero if it did not say.
	Expires time.Time
}

// Same reports whether c and d authenticate alike: they are equal but for
// Origin and Expires.
func (c Credential) Same(d Credential) bool { return c.bare() == d.bare() }

// Anonymous reports whether c carries nothing to authenticate with.
func (c Credential) Anonymous() bool { return c.Same(Credential{}) }

// bare is c with only what it authenticates with.
func (c Credential) bare() Credential {
	c.Origin, c.Expires = Origin{}, time.Time{}
	return c
}
