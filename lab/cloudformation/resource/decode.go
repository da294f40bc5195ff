package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Decode reads resolved properties into the struct that out points to. Parameters of a
// template are strings, so a number or a boolean may be given as one, and a string as a
// number or a boolean. A property that the struct does not have is an error that names it by
// its path.
func Decode(properties map[string]any, out any) error {
	coerced, err := coerce("", properties, reflect.TypeOf(out).Elem())
	if err != nil {
		return err
	}
	data, err := json.Marshal(coerced)
	if err != nil {
		return fmt.Errorf("read the properties: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("read the properties: %w", err)
	}
	return nil
}

// coerce makes of value what encoding/json takes for a t.
func coerce(path string, value any, t reflect.Type) (any, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil || t.Kind() == reflect.Interface || t == reflect.TypeFor[json.RawMessage]() {
		return value, nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return coerceFields(path, value, t)
	case reflect.Map:
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("property %s: want an object, not %v", path, value)
		}
		out := make(map[string]any, len(object))
		for key, element := range object {
			var err error
			if out[key], err = coerce(path+"/"+key, element, t.Elem()); err != nil {
				return nil, err
			}
		}
		return out, nil
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("property %s: want a list, not %v", path, value)
		}
		out := make([]any, len(list))
		for i, element := range list {
			var err error
			if out[i], err = coerce(fmt.Sprintf("%s/%d", path, i), element, t.Elem()); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return coerceScalar(path, value, t)
}

func coerceFields(path string, value any, t reflect.Type) (any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("property %s: want an object, not %v", path, value)
	}
	fields := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		fields[name] = field.Type
	}
	out := make(map[string]any, len(object))
	for key, element := range object {
		field, ok := fields[key]
		if !ok {
			return nil, fmt.Errorf("the lab does not support the property %s", path+"/"+key)
		}
		var err error
		if out[key], err = coerce(path+"/"+key, element, field); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func coerceScalar(path string, value any, t reflect.Type) (any, error) {
	switch value.(type) {
	case string, bool, float64, int, json.Number:
	default:
		return nil, fmt.Errorf("property %s: want a %s, not %v", path, t.Kind(), value)
	}
	text := fmt.Sprint(value)
	if f, ok := value.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	var out any
	var err error
	switch t.Kind() {
	case reflect.String:
		return text, nil
	case reflect.Bool:
		out, err = strconv.ParseBool(text)
	case reflect.Int, reflect.Int64:
		out, err = strconv.ParseInt(text, 10, 64)
	case reflect.Float64:
		out, err = strconv.ParseFloat(text, 64)
	default:
		return nil, fmt.Errorf("property %s: no way to read a %s", path, t)
	}
	if err != nil {
		return nil, fmt.Errorf("property %s: want a %s, not %q", path, t.Kind(), text)
	}
	return out, nil
}
