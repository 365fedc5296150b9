namespace Pipeline.LambdaEmulator.Functions;

/// <summary>The functions of the stack, by name.</summary>
public sealed class FunctionRegistry(IEnumerable<LambdaFunction> functions)
{
    private readonly Dictionary<string, LambdaFunction> _functions = functions.ToDictionary(function => function.Definition.Name);

    public IEnumerable<string> Names => _functions.Keys;

    public LambdaFunction? Find(string name) => _functions.GetValueOrDefault(name);
}
