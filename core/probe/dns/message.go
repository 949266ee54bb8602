package dns

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// question is one question to a server: a name and an address family.
type question struct {
	name dnsmessage.Name // with a dot at its end
	kind dnsmessage.Type // TypeA or TypeAAAA
	id   uint16
}

// ednsBytes is the largest answer over UDP that a question with EDNS allows (dnsflagday.net/2020); without it 512 are.
const ednsBytes = 1232

func newQuestion(name string, kind dnsmessage.Type, id uint16) (question, error) {
	packed, err := dnsmessage.NewName(name + ".")
	return question{name: packed, kind: kind, id: id}, err
}

// pack writes the question as a message behind what message holds.
func (q question) pack(message []byte, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(message, dnsmessage.Header{ID: q.id, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: q.name, Type: q.kind, Class: dnsmessage.ClassINET}))
	if edns {
		var header dnsmessage.ResourceHeader
		err = errors.Join(err, header.SetEDNS0(ednsBytes, dnsmessage.RCodeSuccess, false), b.StartAdditionals(),
			b.OPTResource(header, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// verdict is what a message means to a question.
type verdict int

const (
	foreign   verdict = iota // it does not answer this question: garbage, or somebody's attempt to answer in the server's place
	answered                 // with addresses, or with none for a name that has none
	noName                   // there is no such name
	truncated                // the answer is too long for UDP
	refused                  // the server cannot or will not answer
	noEDNS                   // the server did not understand; it may without EDNS
)

type reply struct {
	verdict   verdict
	addresses []netip.Addr
	reason    string // of refused
}

// read understands a message that came in answer to the question, with whatever anybody may have put in it.
func (q question) read(message []byte) reply {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || !header.Response || header.ID != q.id || header.OpCode != 0 {
		return reply{}
	}
	asked, err := p.Question()
	switch {
	case errors.Is(err, dnsmessage.ErrSectionDone):
		// Some servers return nothing but the header of what they do not understand.
		if header.RCode == dnsmessage.RCodeSuccess || header.RCode == dnsmessage.RCodeNameError {
			return reply{}
		}
	case err != nil || asked.Type != q.kind || asked.Class != dnsmessage.ClassINET || lower(asked.Name) != lower(q.name):
		return reply{}
	default:
		if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
			return reply{}
		}
	}
	switch {
	case header.RCode == dnsmessage.RCodeFormatError:
		return reply{verdict: noEDNS, reason: rcodeName(header.RCode)}
	case header.RCode == dnsmessage.RCodeNameError:
		return reply{verdict: noName}
	case header.RCode != dnsmessage.RCodeSuccess:
		return reply{verdict: refused, reason: rcodeName(header.RCode)}
	case header.Truncated:
		return reply{verdict: truncated}
	}
	return q.readAnswers(&p, header)
}

// readAnswers follows the aliases from the name asked for to its addresses.
func (q question) readAnswers(p *dnsmessage.Parser, header dnsmessage.Header) reply {
	const mostAnswers = 512
	aliases := make(map[string]dnsmessage.Name)
	found := make(map[string][]netip.Addr)
	damaged := reply{verdict: refused, reason: "its answer is damaged"}
	answers := 0
	for ; answers < mostAnswers; answers++ {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return damaged
		}
		owner := lower(h.Name)
		var address netip.Addr
		switch {
		case h.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case h.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				aliases[owner] = r.CNAME
			}
		case h.Type == dnsmessage.TypeA && q.kind == dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			address = netip.AddrFrom4(r.A)
		case h.Type == dnsmessage.TypeAAAA && q.kind == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			address = netip.AddrFrom16(r.AAAA).Unmap()
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return damaged
		}
		if address.IsValid() && len(found[owner]) < mostAddresses {
			found[owner] = append(found[owner], address)
		}
	}
	name := lower(q.name)
	for range mostAliases {
		if addresses := found[name]; len(addresses) > 0 {
			return reply{verdict: answered, addresses: addresses}
		}
		next, is := aliases[name]
		if !is {
			break
		}
		name = lower(next)
	}
	if answers == 0 {
		return q.readEmpty(p, header)
	}
	return reply{verdict: answered}
}

// readEmpty tells a name without addresses from a server that has nothing to say about it.
func (q question) readEmpty(p *dnsmessage.Parser, header dnsmessage.Header) reply {
	additional := false
	if p.SkipAllAnswers() == nil && p.SkipAllAuthorities() == nil {
		for {
			h, err := p.AdditionalHeader()
			if err != nil {
				break
			}
			additional = true
			if code := h.ExtendedRCode(header.RCode); h.Type == dnsmessage.TypeOPT && code != dnsmessage.RCodeSuccess {
				return reply{verdict: noEDNS, reason: rcodeName(code)}
			}
			if p.SkipAdditional() != nil {
				break
			}
		}
	}
	// A referral, or a server that does not know the zone: the next one may (as the C library decides it).
	if !header.Authoritative && !header.RecursionAvailable && !additional {
		return reply{verdict: refused, reason: "it neither knows the name nor asks others (lame)"}
	}
	return reply{verdict: answered}
}

// lower is what names are compared by: upper and lower case of ASCII letters are one (RFC 4343).
func lower(name dnsmessage.Name) string {
	text := []byte(name.String())
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			text[i] = c | 0x20
		}
	}
	return string(text)
}

// rcodeName is a response code as RFC 1035, RFC 2136 and RFC 6891 name it.
func rcodeName(code dnsmessage.RCode) string {
	switch code {
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	case 16:
		return "BADVERS"
	}
	return fmt.Sprintf("response code %d", uint16(code))
}
