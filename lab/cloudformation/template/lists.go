package template

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
)

func join(list []any) (any, error) {
	if len(list) == 2 {
		separator, isText := Text(list[0])
		parts, isList := list[1].([]any)
		texts := make([]string, len(parts))
		all := true
		for i, v := range parts {
			var ok bool
			texts[i], ok = Text(v)
			all = all && ok
		}
		if isText && isList && all {
			return strings.Join(texts, separator), nil
		}
	}
	return nil, errors.New("Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined.") //nolint:staticcheck // CloudFormation's words
}

func selectOne(list []any) (any, error) {
	if len(list) == 2 {
		text, isText := Text(list[0])
		from, isList := list[1].([]any)
		index, err := strconv.Atoi(text)
		if isText && isList && err == nil {
			if index < 0 || index >= len(from) {
				return nil, fmt.Errorf("Template error: Fn::Select cannot select nonexistent value at index %d", index) //nolint:staticcheck // CloudFormation's words
			}
			return from[index], nil
		}
	}
	return nil, errors.New("Template error: Fn::Select requires a list argument with two elements: an integer index and a list") //nolint:staticcheck // CloudFormation's words
}

func split(list []any) (any, error) {
	if len(list) == 2 {
		separator, isText := Text(list[0])
		text, also := Text(list[1])
		if isText && also && separator != "" {
			var parts []any
			for part := range strings.SplitSeq(text, separator) {
				parts = append(parts, part)
			}
			return parts, nil
		}
	}
	return nil, errors.New("Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a function that returns a string to be split.") //nolint:staticcheck // CloudFormation's words
}

// cidr cuts a block into count blocks, each with so many bits for hosts.
func cidr(list []any) (any, error) {
	const usage = "Template error: Fn::Cidr requires an IP block, a count between 1 and 256, and the number of bits of a subnet"
	if len(list) != 2 && len(list) != 3 {
		return nil, errors.New(usage)
	}
	block, _ := Text(list[0])
	text, _ := Text(list[1])
	prefix, err := netip.ParsePrefix(block)
	count, bad := strconv.Atoi(text)
	if err != nil || bad != nil || count < 1 || count > 256 {
		return nil, errors.New(usage)
	}
	bits := 8
	if prefix.Addr().Is6() {
		bits = 64
	}
	if len(list) == 3 {
		text, _ := Text(list[2])
		if bits, err = strconv.Atoi(text); err != nil {
			return nil, errors.New(usage)
		}
	}
	length := prefix.Addr().BitLen() - bits
	if bits < 1 || length < prefix.Bits() || length-prefix.Bits() < 31 && count > 1<<(length-prefix.Bits()) {
		return nil, fmt.Errorf("Template error: Fn::Cidr cannot make %d blocks of %d bits out of %s", count, bits, block) //nolint:staticcheck // CloudFormation's style
	}
	base := new(big.Int).SetBytes(prefix.Masked().Addr().AsSlice())
	out := make([]any, count)
	for i := range out {
		at := new(big.Int).Add(base, new(big.Int).Lsh(big.NewInt(int64(i)), uint(bits)))
		addr, _ := netip.AddrFromSlice(at.FillBytes(make([]byte, prefix.Addr().BitLen()/8)))
		out[i] = netip.PrefixFrom(addr, length).String()
	}
	return out, nil
}
