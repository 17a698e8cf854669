#include "runtime/tokenizer/jinja/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/printing.h"

namespace descant::jinja {
namespace {

absl::Status Unsupported(Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) return UndefinedError(a.undefined());
  if (b.is_undefined()) return UndefinedError(b.undefined());
  return RenderError(absl::StrCat("unsupported operand type(s) for ",
                                  Symbol(op), ": '", TypeName(a), "' and '",
                                  TypeName(b), "'"));
}

absl::Status Overflow() { return NotServed("an integer beyond 64 bits"); }

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) {
      return RenderError("0.0 cannot be raised to a negative power");
    }
    return Value(
        std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  if (base == 0 || base == 1 || base == -1) {
    return Value(exponent == 0 ? int64_t{1}
                 : base == -1  ? int64_t{exponent % 2 == 0 ? 1 : -1}
                               : base);
  }
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) return Overflow();
  }
  return Value(result);
}

absl::StatusOr<Value> IntegerArithmetic(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Operator::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::kPower:
      return IntegerPower(a, b);
    default: {
      if (b == 0) {
        return RenderError(op == Operator::kDivide
                               ? "division by zero"
                               : "integer division or modulo by zero");
      }
      if (op == Operator::kDivide) {
        return Value(static_cast<double>(a) / static_cast<double>(b));
      }
      if (b == -1) {
        if (op == Operator::kModulo) return Value(int64_t{0});
        overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      // Towards minus infinity; the remainder has the divisor's sign.
      const bool round_down = a % b != 0 && (a < 0) != (b < 0);
      result = op == Operator::kModulo ? a % b + (round_down ? b : 0)
                                       : a / b - (round_down ? 1 : 0);
    }
  }
  if (overflow) return Overflow();
  return Value(result);
}

absl::StatusOr<Value> RealArithmetic(Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value(a + b);
    case Operator::kSubtract:
      return Value(a - b);
    case Operator::kMultiply:
      return Value(a * b);
    case Operator::kPower: {
      if (a == 0 && b < 0) {
        return RenderError("0.0 cannot be raised to a negative power");
      }
      const double result = std::pow(a, b);
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) {
        return NotServed("a complex number");
      }
      if (std::isinf(result) && !std::isinf(a) && !std::isinf(b)) {
        return RenderError("(34, 'Numerical result out of range')");
      }
      return Value(result);
    }
    default:
      break;
  }
  if (b == 0) {
    return RenderError(op == Operator::kDivide
                           ? "float division by zero"
                           : "float floor division by zero");
  }
  if (op == Operator::kDivide) return Value(a / b);
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (b < 0) != (remainder < 0)) {
    remainder += b;
    quotient -= 1;
  }
  if (op == Operator::kModulo) {
    return Value(remainder == 0 ? std::copysign(0.0, b) : remainder);
  }
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  return Value(quotient == 0 ? std::copysign(0.0, a / b) : whole);
}

absl::StatusOr<Value> Repeat(Work& work, const Value& sequence, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (sequence.is_string()) {
    const std::string& text = sequence.text();
    if (!text.empty() && count > kMaxWorkBytes) return work.Bytes(SIZE_MAX);
    DESCANT_RETURN_IF_ERROR(
        work.Bytes(text.size() * static_cast<size_t>(count)));
    std::string result;
    for (int64_t i = 0; i < count && !text.empty(); ++i) result += text;
    return MakeString(std::move(result));
  }
  const std::vector<Value>& items = sequence.list().items;
  std::vector<Value> result;
  for (int64_t i = 0; i < count && !items.empty(); ++i) {
    DESCANT_RETURN_IF_ERROR(work.Steps(static_cast<int64_t>(items.size())));
    result.insert(result.end(), items.begin(), items.end());
  }
  return MakeList(sequence.list().flavour, std::move(result));
}

absl::StatusOr<Value> Add(Work& work, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    DESCANT_RETURN_IF_ERROR(work.Bytes(a.text().size() + b.text().size()));
    if (a.string()->markup == b.string()->markup) {
      std::string sum;
      sum.reserve(a.text().size() + b.text().size());
      sum.append(a.text()).append(b.text());
      return a.string()->markup ? MakeMarkup(std::move(sum))
                                : MakeString(std::move(sum));
    }
    const auto escaped = [](const Value& value) {
      return value.string()->markup ? value.text() : HtmlEscape(value.text());
    };
    return MakeMarkup(absl::StrCat(escaped(a), escaped(b)));
  }
  if (a.is(Kind::kList) && b.is(Kind::kList) &&
      a.list().flavour == b.list().flavour && IsRepeatable(a)) {
    std::vector<Value> items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    DESCANT_RETURN_IF_ERROR(work.Steps(static_cast<int64_t>(items.size())));
    return MakeList(a.list().flavour, std::move(items));
  }
  if (a.is_string() && !b.is_undefined()) {
    return RenderError(absl::StrCat("can only concatenate str (not \"",
                                    TypeName(b), "\") to str"));
  }
  return Unsupported(Operator::kAdd, a, b);
}

}  // namespace

absl::string_view Symbol(Operator op) {
  static constexpr absl::string_view kSymbols[] = {
      "+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
      "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<int>(op)];
}

bool IsRepeatable(const Value& value) {
  return value.is_string() || value.is_list(Flavour::kList) ||
         value.is_list(Flavour::kTuple);
}

absl::StatusOr<Value> Arithmetic(Work& work, Operator op, const Value& a,
                                 const Value& b) {
  const std::optional<int64_t> left = a.as_integer();
  const std::optional<int64_t> right = b.as_integer();
  if (left.has_value() && right.has_value()) {
    return IntegerArithmetic(op, *left, *right);
  }
  const std::optional<double> left_real = a.as_real();
  const std::optional<double> right_real = b.as_real();
  if (left_real.has_value() && right_real.has_value()) {
    return RealArithmetic(op, *left_real, *right_real);
  }
  if (op == Operator::kAdd) return Add(work, a, b);
  if (op == Operator::kMultiply && left.has_value() && IsRepeatable(b)) {
    return Repeat(work, b, *left);
  }
  if (op == Operator::kMultiply && right.has_value() && IsRepeatable(a)) {
    return Repeat(work, a, *right);
  }
  if (op == Operator::kModulo && a.is_string()) {
    return PercentFormat(work, a.text(), b);
  }
  return Unsupported(op, a, b);
}

absl::StatusOr<Value> Negate(const Value& value, bool negative) {
  if (value.is(Kind::kFloat)) {
    return Value(negative ? -value.real() : value.real());
  }
  if (const auto integer = value.as_integer(); integer.has_value()) {
    if (!negative) return Value(*integer);
    return IntegerArithmetic(Operator::kSubtract, 0, *integer);
  }
  if (value.is_undefined()) return UndefinedError(value.undefined());
  return RenderError(absl::StrCat("bad operand type for unary ",
                                  negative ? "-" : "+", ": '", TypeName(value),
                                  "'"));
}

}  // namespace descant::jinja
