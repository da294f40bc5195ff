package ec2

import (
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// The functions below carry structures between Go and the parameters of requests, where a
// field is Outer.Inner and an element of a list Name.N. A field is called as its JSON name
// says, which is the SDKs' and CloudFormation's, or as its tag ec2 where requests differ.

// fill reads parameters into a pointer to a structure. What a structure has no field for
// stays unread.
func (p *params) fill(prefix string, into any) {
	p.fillValue(strings.TrimSuffix(prefix, "."), reflect.ValueOf(into).Elem())
}

// fillValue tells whether any parameter was there.
func (p *params) fillValue(name string, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString(p.text(name))
		return p.has(name)
	case reflect.Bool:
		v.SetBool(p.boolean(name))
		return p.has(name)
	case reflect.Int:
		v.SetInt(int64(p.integer(name, 0)))
		return p.has(name)
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		found := p.fillValue(name, target.Elem())
		if found {
			v.Set(target)
		}
		return found
	case reflect.Slice:
		for _, member := range p.members(name) {
			element := reflect.New(v.Type().Elem()).Elem()
			if p.fillValue(member, element) {
				v.Set(reflect.Append(v, element))
			}
		}
		return v.Len() > 0
	case reflect.Struct:
		found := false
		for field, value := range v.Fields() {
			found = p.fillValue(join(name, parameter(field)), value) || found
		}
		return found
	}
	panic("no parameter is a " + v.Type().String())
}

// spread writes a structure as parameters, without what is zero.
func spread(prefix string, from any) url.Values {
	values := url.Values{}
	spreadValue(strings.TrimSuffix(prefix, "."), reflect.Indirect(reflect.ValueOf(from)), values)
	return values
}

func spreadValue(name string, v reflect.Value, into url.Values) {
	if v.IsZero() {
		return
	}
	if v.Kind() == reflect.Pointer {
		// What a pointer leads to was said, even where it is zero.
		if v = v.Elem(); v.IsZero() && v.Kind() != reflect.Struct {
			into.Set(name, scalar(v))
			return
		}
	}
	switch v.Kind() {
	case reflect.Slice:
		for n := range v.Len() {
			spreadValue(name+"."+strconv.Itoa(n+1), v.Index(n), into)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			spreadValue(join(name, parameter(field)), value, into)
		}
	default:
		into.Set(name, scalar(v))
	}
}

func scalar(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	}
	return v.String()
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func parameter(field reflect.StructField) string {
	if name := field.Tag.Get("ec2"); name != "" {
		return name
	}
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "" {
		return field.Name
	}
	return name
}
