"""Substitutions, conditions and typed values, without processes."""

from __future__ import annotations

import pytest
from launch.conditions import IfCondition, InvalidConditionExpressionError, UnlessCondition
from launch.substitutions import (
    AllSubstitution,
    AndSubstitution,
    AnySubstitution,
    Command,
    EnvironmentVariable,
    EqualsSubstitution,
    FindExecutable,
    IfElseSubstitution,
    LaunchConfiguration,
    NotEqualsSubstitution,
    NotSubstitution,
    OrSubstitution,
    PathJoinSubstitution,
    PythonExpression,
    SubstitutionFailure,
    TextSubstitution,
    ThisLaunchFileDir,
)
from launch.utilities.type_utils import coerce_to_type
from launch_ros.parameter_descriptions import ParameterValue, evaluate_value, flatten

from launch import LaunchContext, LaunchDescription, Substitution, UnsupportedLaunchFeature


@pytest.fixture
def context() -> LaunchContext:
    made = LaunchContext()
    made.launch_configurations.update(yes="true", no="False", one="1", name="can", number="0.5")
    return made


def var(name: str) -> LaunchConfiguration:
    return LaunchConfiguration(name)


@pytest.mark.parametrize(
    ("substitution", "text"),
    [
        (TextSubstitution(text="a b"), "a b"),
        (var("name"), "can"),
        (LaunchConfiguration("absent", default="x"), "x"),
        (LaunchConfiguration("absent", default=["x", var("name")]), "xcan"),
        (LaunchConfiguration("absent", default=5), "5"),
        (LaunchConfiguration(["na", "me"]), "can"),
        (PathJoinSubstitution(["/a", var("name"), "c.yaml"]), "/a/can/c.yaml"),
        (EnvironmentVariable("SURELY_ABSENT", default_value=["d", var("name")]), "dcan"),
        (PythonExpression(["'", var("name"), "' != ''"]), "True"),
        (PythonExpression(["floor(", var("number"), " * 10)"]), "5"),
        (PythonExpression(["math.pi > ", var("number")]), "True"),
        (PythonExpression("os.path.sep", ["os.path", "os"]), "/"),
        (NotSubstitution(var("yes")), "false"),
        (AndSubstitution(var("yes"), var("no")), "false"),
        (AndSubstitution(var("yes"), var("one")), "true"),
        (OrSubstitution(var("no"), var("yes")), "true"),
        (AnySubstitution(var("no"), var("no"), var("one")), "true"),
        (AllSubstitution(var("yes"), var("no")), "false"),
        (EqualsSubstitution(var("yes"), True), "true"),
        (EqualsSubstitution(var("one"), "true"), "true"),
        (EqualsSubstitution(var("number"), 0.50), "true"),
        (EqualsSubstitution(var("name"), "can"), "true"),
        (EqualsSubstitution(var("name"), None), "false"),
        (NotEqualsSubstitution(var("name"), "plate"), "true"),
        (IfElseSubstitution(var("yes"), "a", var("absent")), "a"),
        (IfElseSubstitution(var("no"), "a"), ""),
        (Command(["echo ", var("name"), " 'b  c'"]), "can b  c\n"),
    ],
)
def test_performs(context: LaunchContext, substitution: Substitution, text: str) -> None:
    assert substitution.perform(context) == text
    assert substitution.describe()


@pytest.mark.parametrize(
    "substitution",
    [
        var("absent"),
        EnvironmentVariable("SURELY_ABSENT"),
        FindExecutable(name="surely-absent"),
        ThisLaunchFileDir(),
        NotSubstitution("maybe"),
        AnySubstitution("true", "maybe"),
        Command("surely-absent"),
        Command("sh -c 'exit 3'"),
        Command("sh -c 'echo out; echo bad >&2'"),
    ],
)
def test_fails_clearly(context: LaunchContext, substitution: Substitution) -> None:
    with pytest.raises(SubstitutionFailure):
        substitution.perform(context)


@pytest.mark.parametrize(
    ("text", "holds"), [("true", True), (" TRUE ", True), ("1", True), ("0", False), ("False", False)]
)
def test_conditions(context: LaunchContext, text: str, holds: bool) -> None:
    assert IfCondition(text).evaluate(context) is holds
    assert UnlessCondition(text).evaluate(context) is not holds


def test_condition_that_is_no_boolean(context: LaunchContext) -> None:
    with pytest.raises(InvalidConditionExpressionError, match=r"one of \[true, 1, false, 0\] but got 'can'"):
        IfCondition(var("name")).evaluate(context)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", int, 5),
        ("5", float, 5.0),
        ("1e-3", float, 1e-3),
        ("5", str, "5"),
        ("y", str, "y"),
        ("true", bool, True),
        ("0", bool, False),
        ("[1, 2]", list[int], [1, 2]),
        ("5", None, 5),
        ("can", None, "can"),
        ("[a, b]", None, ["a", "b"]),
    ],
)
def test_typed_values(context: LaunchContext, text: str, kind: type, value: object) -> None:
    found = ParameterValue([TextSubstitution(text=text)], value_type=kind).evaluate(context)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind"), [("can", int), ("maybe", bool), ("[1, a]", list[int]), ("{a: 1}", None)])
def test_values_of_the_wrong_type(text: str, kind: type) -> None:
    with pytest.raises(ValueError):
        coerce_to_type(text, kind)


def test_parameters_of_dictionaries(context: LaunchContext) -> None:
    given = {
        "a": {"b": 1, ("c", var("name")): [var("number")]},
        "text": "5",
        "list": [1, 2.5],
        "names": [["x"], [var("name")]],
    }
    found = {}
    for subs, value in flatten(given):
        name = "".join(sub.perform(context) for sub in subs)
        found[name] = evaluate_value(context, name, value)
    assert found == {"a.b": 1, "a.ccan": 0.5, "text": "5", "list": [1.0, 2.5], "names": ["x", "can"]}
    with pytest.raises(TypeError, match="uniform type"):
        evaluate_value(context, "mixed", [1, "a"])


def test_features_that_are_missing_are_named() -> None:
    with pytest.raises(UnsupportedLaunchFeature, match=r"does not have 'launch_ros\.actions\.ComposableNodeContainer'"):
        from launch_ros.actions import ComposableNodeContainer  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'NoSuchAction'"):
        from launch.actions import NoSuchAction  # noqa: F401
    assert LaunchDescription().entities == []
